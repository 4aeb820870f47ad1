//! `trove-guestctl verify-backup`: a restore drill on this guest.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::bar::Bar;
use super::cli::{BrokerArgs, VerifyArgs};
use super::guest::Guest;
use super::{output, remote};
use crate::error::{Error, Result};
use crate::managers::drill::{Drill, Report};
use crate::model::RestoreRequest;
use crate::op::Op;
use crate::strategies::storage::{StorageRequest, storage_for};
use crate::system::files;

/// Between two looks at how far it is.
const EVERY: Duration = Duration::from_millis(250);

pub(super) async fn run(broker: &BrokerArgs, args: &VerifyArgs) -> Result<ExitCode> {
    let Guest { settings, manager, op, .. } = Guest::of(remote::settings(broker)?, args.token_file.as_deref())?;
    let backups = manager.backups().ok_or_else(|| Error::not_supported("verify-backup", &settings.datastore_manager))?;
    let cancel = op.cancel.clone();
    let release = settings.controller_release;
    let wanted = StorageRequest { swift_url: args.swift_url.clone(), storage_driver: None, release };
    let storage = storage_for(&op, &settings, &wanted).await?;
    files::ensure_directory(&settings.state_dir, 0o700, None)?;
    let mount_point = manager.mount_point();
    let room = args.scratch_dir.as_ref().or(settings.backup.drill_dir.as_ref()).unwrap_or(&mount_point);
    let drill = Drill { settings: &settings.backup, storage, state_dir: &settings.state_dir, room };
    let request = RestoreRequest::of(args.location.clone(), args.checksum.clone(), args.kind.clone());
    let report = tokio::select! {
        // Cancel-safe: the others never end. An interrupted drill cleans up before it does.
        report = drill.hold(&op, backups, &request) => report?,
        never = watch(&op) => match never {},
        never = interruption(cancel) => match never {},
    };
    tell(args, &report)
}

/// Ctrl-C cancels the drill.
async fn interruption(cancel: CancellationToken) -> Infallible {
    if tokio::signal::ctrl_c().await.is_ok() {
        cancel.cancel();
    }
    std::future::pending().await
}

/// Draws how far it is.
async fn watch(op: &Op) -> Infallible {
    let bar = Bar::new("verify-backup");
    let mut look = tokio::time::interval(EVERY);
    loop {
        look.tick().await;
        match op.progress.read() {
            Some(now) => bar.show(now.fraction(), &now.to_string()),
            None => bar.show(None, "looking at the backup"),
        }
    }
}

fn tell(args: &VerifyArgs, report: &Report) -> Result<ExitCode> {
    let text = if args.json { output::json("report", report)? } else { words(report) };
    output::print(&text)?;
    Ok(if report.found.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(report: &Report) -> String {
    let found = &report.found;
    let verdict = if found.problems.is_empty() { "the backup is sound" } else { "THE BACKUP IS DAMAGED" };
    let chain = if report.backups == 1 { String::new() } else { format!(", a chain of {}", report.backups) };
    let mut text = format!(
        "{verdict}{chain}: {} started on it and found {} {} in {} databases ({:.1} MB stored, {:.0} s)",
        found.server,
        found.items.count,
        found.items.name,
        found.databases,
        report.stored as f64 / 1e6,
        report.seconds
    );
    for problem in &found.problems {
        text.push_str(&format!("\n  {problem}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managers::drill::{Examination, Items};

    #[test]
    fn a_report_says_whether_it_is_sound() {
        let found = Examination {
            server: "MariaDB 10.11.14".into(),
            databases: 2,
            items: Items { name: "tables", count: 7 },
            problems: Vec::new(),
        };
        let mut report = Report { backups: 3, stored: 1_500_000, seconds: 4.2, found };
        assert_eq!(
            words(&report),
            "the backup is sound, a chain of 3: MariaDB 10.11.14 started on it and found 7 tables in 2 databases (1.5 MB stored, 4 s)"
        );
        report.found.problems.push("shop.items: Corrupt".into());
        assert!(words(&report).starts_with("THE BACKUP IS DAMAGED") && words(&report).ends_with("\n  shop.items: Corrupt"));
    }
}
