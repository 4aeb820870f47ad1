//! `trove-guestctl status`: what the agent of this guest is doing now, with a bar for what moves bytes.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use super::bar::Bar;
use super::cli::{BrokerArgs, StatusArgs};
use super::output::{self, print};
use super::remote;
use crate::error::{Error, Result};
use crate::monitor::{self, OperationView, Snapshot};
use crate::status::Phase;
use crate::system::clock::Utc;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(broker: &BrokerArgs, args: &StatusArgs) -> Result<ExitCode> {
    let state_dir = match &args.state_dir {
        Some(directory) => directory.clone(),
        None => remote::settings(broker)?.state_dir,
    };
    let mut look = tokio::time::interval(EVERY);
    let mut screen = Screen::new(args);
    loop {
        look.tick().await;
        match monitor::ask(&state_dir).await {
            Ok(snapshot) => screen.show(&snapshot)?,
            // An agent that is being restarted is what somebody may watch for.
            Err(error) if args.watch => screen.show_missing(&error),
            Err(error) => return Err(error),
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Where snapshots go: lines, JSON, or bars on a terminal that is being watched.
struct Screen {
    json: bool,
    bars: Option<BTreeMap<String, Bar>>,
    /// The head that was shown last; empty when none was, or no agent has answered since.
    last: String,
    /// No agent answered the last time, and that was said.
    missing: bool,
}

impl Screen {
    fn new(args: &StatusArgs) -> Self {
        let bars = args.watch && !args.json && std::io::stderr().is_terminal();
        Screen { json: args.json, bars: bars.then(BTreeMap::new), last: String::new(), missing: false }
    }

    /// Once for as long as nobody answers, on standard error.
    fn show_missing(&mut self, error: &Error) {
        if !self.missing {
            writeln!(std::io::stderr(), "trove-guestctl: {error}; waiting for it").ok();
        }
        self.missing = true;
        self.last.clear();
        if let Some(bars) = &mut self.bars {
            bars.clear();
        }
    }

    fn show(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.missing = false;
        if self.json {
            return print(&output::json("status", snapshot)?);
        }
        let head = head(snapshot);
        for line in changed(&self.last, &head) {
            print(line)?;
        }
        self.last = head;
        match &mut self.bars {
            None => snapshot.operations.iter().try_for_each(|operation| print(&format!("  {}", line(operation)))),
            Some(bars) => {
                bars.retain(|name, _| snapshot.operations.iter().any(|operation| name_of(operation) == *name));
                for operation in &snapshot.operations {
                    let bar = bars.entry(name_of(operation)).or_insert_with_key(|name| Bar::new(name));
                    match &operation.progress {
                        Some(progress) => bar.show(progress.fraction, &progress.words),
                        None => bar.show(None, &format!("{:.0} s", operation.elapsed)),
                    }
                }
                Ok(())
            }
        }
    }
}

/// The lines of `now` that were not in `before`: once, and again when they change.
fn changed<'a>(before: &'a str, now: &'a str) -> impl Iterator<Item = &'a str> {
    now.lines().filter(|line| before.lines().all(|shown| shown != *line))
}

fn headline(snapshot: &Snapshot) -> String {
    let phase = match &snapshot.phase {
        Phase::New => "not prepared yet".to_owned(),
        Phase::Preparing { .. } => "being prepared".to_owned(),
        Phase::Failed { reason, .. } => format!("FAILED: {reason}"),
        Phase::ClusterReady => "prepared, waits for its cluster".to_owned(),
        Phase::Upgrading => "being upgraded".to_owned(),
        Phase::Active => "in service".to_owned(),
    };
    let idle = if snapshot.operations.is_empty() { "; nothing is under way" } else { "" };
    format!("{} ({}) {phase}{idle}", snapshot.guest_id, snapshot.datastore_manager)
}

/// The headline, and what the controller was told last.
fn head(snapshot: &Snapshot) -> String {
    let mut head = headline(snapshot);
    if let Some(role) = &snapshot.role {
        head.push_str(&format!("\n  role: {role}"));
    }
    if let Some(heartbeat) = &snapshot.last_heartbeat {
        head.push_str(&format!("\n  last heartbeat: '{}' at {}", heartbeat.status, moment(heartbeat.at)));
    }
    if let Some(backup) = &snapshot.last_backup {
        let more = backup.location.as_ref().or(backup.note.as_ref()).map(|text| format!(", {text}")).unwrap_or_default();
        head.push_str(&format!("\n  last backup: {} {} at {}{more}", backup.id, backup.state, moment(backup.ended)));
    }
    head
}

/// To the second, in UTC.
fn moment(seconds: f64) -> String {
    let text = Utc::from_seconds(Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs()).to_string();
    format!("{} UTC", text.split('.').next().unwrap_or(&text))
}

fn name_of(operation: &OperationView) -> String {
    match &operation.request_id {
        Some(id) => format!("{} {id}", operation.method),
        None => operation.method.clone(),
    }
}

fn line(operation: &OperationView) -> String {
    match &operation.progress {
        Some(progress) => format!("{}: {}", name_of(operation), progress.words),
        None => format!("{}: for {:.0} s", name_of(operation), operation.elapsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MemberRole;
    use crate::monitor::{BackupView, HeartbeatView, ProgressView};

    #[test]
    fn a_line_is_shown_again_when_it_has_changed() {
        let (first, second) =
            ("g in service\n  role: alone\n  last heartbeat: at 1", "g in service\n  role: alone\n  last heartbeat: at 2");
        assert_eq!(changed("", first).collect::<Vec<_>>(), first.lines().collect::<Vec<_>>());
        assert_eq!(changed(first, second).collect::<Vec<_>>(), ["  last heartbeat: at 2"]);
        assert_eq!(changed(second, second).count(), 0);
    }

    #[test]
    fn a_snapshot_reads_like_a_sentence() {
        let progress = ProgressView {
            content: 1_000_000,
            stored: 500_000,
            retries: 0,
            elapsed: 2.0,
            rate: 500_000.0,
            fraction: Some(0.25),
            remaining: Some(6.0),
            words: "1.0 MB of content".into(),
        };
        let operation =
            OperationView { method: "create_backup".into(), request_id: Some("req-1".into()), elapsed: 3.0, progress: Some(progress) };
        assert_eq!(line(&operation), "create_backup req-1: 1.0 MB of content");
        let snapshot = Snapshot {
            version: "0".into(),
            guest_id: "g".into(),
            datastore_manager: "mysql".into(),
            pid: 1,
            started: 0.0,
            phase: Phase::Failed { reason: "no device".into(), was_in_service: false },
            role: Some(MemberRole::Replica { source: "198.51.100.7".into(), trouble: Some("no route".into()) }),
            last_heartbeat: Some(HeartbeatView { at: 1_795_389_021.9, status: "failed to spawn".into() }),
            last_backup: Some(BackupView {
                id: "b".into(),
                ended: 951_825_600.0,
                state: "FAILED".into(),
                kind: None,
                location: None,
                note: Some("no room".into()),
            }),
            operations: Vec::new(),
        };
        let expected = "g (mysql) FAILED: no device; nothing is under way\n  role: replica of 198.51.100.7, NOT FOLLOWING: no route\n  last heartbeat: 'failed to spawn' at 2026-11-22 23:10:21 UTC\n  \
            last backup: b FAILED at 2000-02-29 12:00:00 UTC, no room";
        assert_eq!(head(&snapshot), expected);
    }
}
