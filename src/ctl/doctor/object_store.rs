//! Where backups go; and the clock, which the store's answer is compared with.

use std::time::{Duration, SystemTime};

use super::finding::Finding;
use super::patient::Patient;
use crate::strategies::storage::{StorageRequest, is_local, storage_for};
use crate::system::command::CommandSpec;

const STORAGE: &str = "storage";
const CLOCK: &str = "clock";

/// Keystone's tokens and TLS do not mind less.
const SKEW: Duration = Duration::from_secs(5);

pub(super) async fn check(patient: &Patient) -> Vec<Finding> {
    let (settings, op) = (&patient.settings, &patient.op);
    let needs_token = settings.storage.credentials.is_none() && !is_local(settings);
    let (mut findings, mut store) = (Vec::new(), None);
    if needs_token && op.context.auth_token.is_none() {
        let found = "each backup comes with a token of the controller's, and this guest has no account of its own: give --token-file to look all the same";
        findings.push(Finding::skipped(STORAGE, found));
    } else {
        let request = StorageRequest { swift_url: patient.swift_url.clone(), storage_driver: None, release: settings.controller_release };
        let asked = async { storage_for(op, settings, &request).await?.visit(op, &settings.backup.container).await };
        match asked.await {
            Ok(visit) => {
                findings.push(Finding::ok(STORAGE, visit.found));
                store = visit.time;
            }
            Err(error) => findings.push(Finding::failed(STORAGE, error.to_string(), "backups fail until this is mended")),
        }
    }
    findings.push(clock(patient, store).await);
    findings
}

async fn clock(patient: &Patient, store: Option<SystemTime>) -> Finding {
    if let Some(store) = store {
        let now = SystemTime::now();
        let skew = now.duration_since(store).unwrap_or_else(|error| error.duration());
        if skew > SKEW {
            let found = format!("this guest and the object store are {} s apart", skew.as_secs());
            return Finding::failed(CLOCK, found, "have the guest's time synchronized (chrony or systemd-timesyncd)");
        }
    }
    let asked = CommandSpec::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).timeout(Duration::from_secs(5));
    let compared = if store.is_some() { "as the object store's; " } else { "" };
    match patient.commands.run(&patient.op, asked).await {
        Ok(output) if output.stdout.trim() == "yes" => Finding::ok(CLOCK, format!("{compared}synchronized")),
        Ok(_) => {
            let advice =
                "have it synchronized (chrony or systemd-timesyncd): tokens, certificates and the order of heartbeats depend on it";
            Finding::warning(CLOCK, format!("{compared}not synchronized"), advice)
        }
        Err(_) if store.is_some() => Finding::ok(CLOCK, "as the object store's"),
        Err(_) => Finding::skipped(CLOCK, "nothing to compare it with: no timedatectl, no object store"),
    }
}
