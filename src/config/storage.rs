//! Options of object stores to [`StorageSettings`].

use secrecy::SecretString;

use super::options::{BACKUP_CREDENTIALS, DEFAULT, SERVICE_CREDENTIALS};
use super::reader::Reader;
use super::settings::{CredentialSettings, Identity, StorageSettings};

pub(super) fn storage_settings(reader: &mut Reader<'_>) -> StorageSettings {
    StorageSettings {
        swift_url: url(reader, DEFAULT, "swift_url"),
        service_type: reader.text_or_empty(DEFAULT, "swift_service_type"),
        endpoint_type: reader.text_or_empty(DEFAULT, "swift_endpoint_type"),
        region: reader.text(SERVICE_CREDENTIALS, "region_name").filter(|name| !name.is_empty()),
        auth_url: url(reader, SERVICE_CREDENTIALS, "auth_url"),
        insecure: reader.flag(DEFAULT, "swift_api_insecure"),
        idle_timeout: reader.seconds(DEFAULT, "swift_idle_timeout"),
        manifest: reader.word(DEFAULT, "backup_manifest"),
        credentials: credentials(reader),
        ca_file: reader.path(BACKUP_CREDENTIALS, "cafile"),
        local_dir: reader.path(DEFAULT, "backup_local_dir"),
    }
}

fn url(reader: &mut Reader<'_>, group: &str, name: &str) -> Option<String> {
    let text = reader.text(group, name).filter(|text| !text.is_empty())?;
    if !(text.starts_with("http://") || text.starts_with("https://")) {
        let outcome = reader.outcome(group, name);
        reader.mistake(outcome.origin, group, name, "it must begin with http:// or https://");
    }
    Some(text)
}

/// Half of an account is a mistake; without `auth_url` there is none.
fn credentials(reader: &mut Reader<'_>) -> Option<CredentialSettings> {
    let mut text = |name: &str| reader.text(BACKUP_CREDENTIALS, name).filter(|text| !text.is_empty());
    let (user, project, id) = (text("username"), text("project_name"), text("application_credential_id"));
    let (user_domain, project_domain) = (text("user_domain_name"), text("project_domain_name"));
    let mut secret = |name: &str| reader.secret(BACKUP_CREDENTIALS, name);
    let (password, secret) = (secret("password"), secret("application_credential_secret"));
    let insecure = reader.flag(BACKUP_CREDENTIALS, "insecure");
    let own_account = reader.flag(BACKUP_CREDENTIALS, "own_account");
    let auth_url = url(reader, BACKUP_CREDENTIALS, "auth_url")?;
    let identity = match (id, secret, user, password, project) {
        (Some(id), Some(secret), ..) => Identity::ApplicationCredential { id, secret },
        (None, None, Some(user), Some(password), Some(project)) => Identity::Password {
            user,
            password,
            user_domain: user_domain.unwrap_or_default(),
            project,
            project_domain: project_domain.unwrap_or_default(),
        },
        _ => {
            let origin = reader.outcome(BACKUP_CREDENTIALS, "auth_url").origin;
            let needs = "it needs application_credential_id and application_credential_secret, or username, password and project_name";
            reader.mistake(origin, BACKUP_CREDENTIALS, "auth_url", needs);
            Identity::ApplicationCredential { id: String::new(), secret: SecretString::default() }
        }
    };
    Some(CredentialSettings { auth_url, identity, insecure, own_account })
}

#[cfg(test)]
mod tests {
    use super::super::{Identity, ManifestKind, Settings, StorageSettings};

    fn storage(lines: &str) -> Result<StorageSettings, String> {
        let text = format!("[DEFAULT]\nguest_id = g\ndatastore_manager = mysql\n{lines}");
        Settings::from_text("test.conf", &text).map(|settings| settings.storage).map_err(|errors| errors.to_string())
    }

    #[test]
    fn nothing_said_means_the_request_decides() {
        let storage = storage("").unwrap();
        assert!(storage.credentials.is_none() && storage.region.is_none() && storage.swift_url.is_none() && storage.manifest.is_none());
        assert_eq!((storage.service_type.as_str(), storage.endpoint_type.as_str()), ("object-store", "publicURL"));
    }

    #[test]
    fn names_of_kilo_and_own_options() {
        let storage =
            storage("os_region_name = R2\ntrove_auth_url = http://k/v2.0\nbackup_manifest = dlo\nswift_url = https://s/v1/AUTH_").unwrap();
        assert_eq!(storage.region.as_deref(), Some("R2"));
        assert_eq!(storage.auth_url.as_deref(), Some("http://k/v2.0"));
        assert_eq!(storage.manifest, Some(ManifestKind::Dlo));
    }

    #[test]
    fn whole_credentials_or_a_mistake_that_shows_none_of_them() {
        let group = "[backup_credentials]\nauth_url = https://k/v3\n";
        let user = format!("{group}username = u\npassword = pl4nted\nproject_name = p\n");
        let found = storage(&user).unwrap().credentials.unwrap();
        assert!(matches!(found.identity, Identity::Password { ref user_domain, .. } if user_domain == "Default"));
        assert!(!format!("{found:?}").contains("pl4nted"));
        let application = format!("{group}application_credential_id = i\napplication_credential_secret = pl4nted\n");
        assert!(matches!(storage(&application).unwrap().credentials.unwrap().identity, Identity::ApplicationCredential { .. }));
        for half in [format!("{group}username = u\npassword = pl4nted"), format!("{group}application_credential_secret = pl4nted")] {
            let error = storage(&half).unwrap_err();
            assert!(error.contains("[backup_credentials] auth_url") && !error.contains("pl4nted"), "{error}");
        }
        assert!(storage("swift_url = ftp://s").unwrap_err().contains("must begin with http://"));
    }
}
