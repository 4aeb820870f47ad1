//! Which account of Swift a request means, and whose token opens it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, redirect};

use super::auth::Auth;
use super::catalog::object_store;
use super::client::Client;
use super::keystone::{Keystone, Method};
use super::storage::SwiftStorage;
use crate::config::{CredentialSettings, ManifestKind, StorageSettings};
use crate::error::{Error, Result, ResultExt};
use crate::model::Release;
use crate::op::Op;
use crate::strategies::storage::StorageRequest;

const CONNECT: Duration = Duration::from_secs(15);
/// Shorter than Swift keeps an idle connection (60 s), so that no request meets one that is being closed.
const KEEP_CONNECTION: Duration = Duration::from_secs(20);
const USER_AGENT: &str = concat!("trove-guestagent/", env!("CARGO_PKG_VERSION"));

/// The storage of a request: its account, opened with its token or with the account of the configuration.
///
/// # Errors
/// Neither request nor configuration say where or who; Keystone had to be asked and refused.
pub(in super::super) async fn open(op: &Op, settings: &StorageSettings, request: &StorageRequest) -> Result<SwiftStorage> {
    let action = "find the object store of this request";
    let http = http_client(settings, settings.insecure)?;
    let (auth, url) = match &settings.credentials {
        Some(credentials) => with_credentials(op, settings, credentials, request).await.action(action)?,
        None => with_request(op, settings, request).await.action(action)?,
    };
    let url = url.trim_end_matches('/').to_owned();
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(Error::guest(format!("the address '{url}' of Swift does not begin with http:// or https://")));
    }
    let client = Arc::new(Client { http, auth, url, idle: settings.idle_timeout });
    let kind = settings.manifest.unwrap_or(match request.release {
        Some(Release::Kilo) => ManifestKind::Dlo,
        _ => ManifestKind::Slo,
    });
    Ok(SwiftStorage { client, kind })
}

async fn with_credentials(
    op: &Op,
    settings: &StorageSettings,
    credentials: &CredentialSettings,
    request: &StorageRequest,
) -> Result<(Auth, String)> {
    let http = http_client(settings, credentials.insecure)?;
    let keystone = Keystone::new(http, &credentials.auth_url, Method::Account(credentials.identity.clone()), settings.idle_timeout);
    let url = if credentials.own_account {
        object_store(&keystone.catalog(op).await?, settings)?
    } else {
        known_url(op, settings, request)?.ok_or_else(|| {
            Error::guest(
                "neither the request nor swift_url says where the user's account is: set swift_url, or [backup_credentials] own_account",
            )
        })?
    };
    Ok((Auth::Keystone(Box::new(keystone)), url))
}

async fn with_request(op: &Op, settings: &StorageSettings, request: &StorageRequest) -> Result<(Auth, String)> {
    let Some(token) = op.context.auth_token.clone() else {
        return Err(Error::guest("the request has no token: give the guest an account of its own ([backup_credentials])"));
    };
    if let Some(url) = known_url(op, settings, request)? {
        return Ok((Auth::request(token), url));
    }
    let (Some(auth_url), Some(project)) = (&settings.auth_url, &op.context.tenant) else {
        return Err(Error::guest(
            "neither the request nor its service catalog says where Swift is: set swift_url, or auth_url and region_name in [service_credentials]",
        ));
    };
    // Trove does not verify Keystone's certificate here (backup/storage/swift.py); this agent does unless told not to.
    let http = http_client(settings, settings.insecure)?;
    let keystone = Keystone::new(http, auth_url, Method::Rescope { token, project: project.clone() }, settings.idle_timeout);
    let url = object_store(&keystone.catalog(op).await?, settings)?;
    Ok((Auth::Keystone(Box::new(keystone)), url))
}

/// Address of the user's account as far as nobody has to be asked: the request's (2026.1), the option's, that of the context's catalog.
fn known_url(op: &Op, settings: &StorageSettings, request: &StorageRequest) -> Result<Option<String>> {
    if let Some(url) = request.swift_url.clone().filter(|url| !url.is_empty()) {
        return Ok(Some(url));
    }
    if let Some((prefix, tenant)) = settings.swift_url.as_ref().zip(op.context.tenant.as_ref()) {
        return Ok(Some(format!("{prefix}{tenant}")));
    }
    match op.context.raw.0.get("service_catalog") {
        Some(catalog) if catalog.as_array().is_some_and(|services| !services.is_empty()) => object_store(catalog, settings).map(Some),
        _ => Ok(None),
    }
}

fn http_client(settings: &StorageSettings, insecure: bool) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .pool_idle_timeout(KEEP_CONNECTION)
        .tcp_keepalive(KEEP_CONNECTION)
        .http1_only()
        .tls_danger_accept_invalid_certs(insecure);
    if let Some(path) = &settings.ca_file {
        let pem = std::fs::read(path).action(format!("read {path}"))?;
        let wrong = |error| Error::guest(format!("{path} ([backup_credentials] cafile) has no certificates: {error}"));
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(&pem).map_err(wrong)?);
    }
    builder.build().map_err(|error| Error::guest(format!("the HTTP client cannot be set up: {error}")))
}
