//! The configuration: whether it can be read, and whether others can read what is secret in it.

use std::os::unix::fs::PermissionsExt;

use super::finding::Finding;
use crate::config::{Settings, Sources};

const CHECK: &str = "configuration";

/// Anybody's read permission.
const OTHERS_READ: u32 = 0o004;

/// The settings, unless there are mistakes: each is a finding then.
pub(super) fn check(sources: &Sources) -> (Option<Settings>, Vec<Finding>) {
    let settings = match Settings::load(sources) {
        Ok(settings) => settings,
        Err(errors) => {
            let advice = "correct it, then: systemctl restart trove-guestagent";
            return (None, errors.0.iter().map(|mistake| Finding::failed(CHECK, mistake.to_string(), advice)).collect());
        }
    };
    let files = sources.files();
    let mut findings = vec![Finding::ok(CHECK, format!("{} {}", settings.datastore_manager, names(&files)))];
    for file in files {
        let open = std::fs::metadata(&file).is_ok_and(|found| found.permissions().mode() & OTHERS_READ != 0);
        if open {
            let found = format!("{file} holds the broker's password or the instance's key, and everybody on this guest may read it");
            findings.push(Finding::warning(CHECK, found, format!("chmod o-rwx {file}")));
        }
    }
    if settings.broker.tls.is_none() && settings.instance_rpc_encr_key.is_none() {
        let found = "requests travel without TLS and without instance_rpc_encr_key: whoever listens on the network reads passwords";
        findings.push(Finding::warning(
            CHECK,
            found,
            "have the controller make keys (enable_secure_rpc_messaging), or use TLS ([oslo_messaging_rabbit] ssl)",
        ));
    }
    (Some(settings), findings)
}

fn names(files: &[camino::Utf8PathBuf]) -> String {
    let names: Vec<&str> = files.iter().map(|file| file.as_str()).collect();
    format!("by {}", names.join(", "))
}
