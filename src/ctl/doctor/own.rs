//! The agent itself: whether it runs, what it last told the controller, and what it has not finished.

use std::time::Duration;

use super::finding::Finding;
use super::patient::Patient;
use crate::journal::{self, Journal};
use crate::status::Phase;

const AGENT: &str = "agent";
const HEARTBEAT: &str = "heartbeat";
const JOURNAL: &str = "journal";

/// A heartbeat is late after so many intervals.
const LATE: u32 = 3;
/// An operation that takes longer may have stuck.
const LONG: f64 = 24.0 * 3600.0;

pub(super) fn agent(patient: &Patient) -> Vec<Finding> {
    let Some(agent) = &patient.agent else {
        let advice = "systemctl status trove-guestagent; journalctl -u trove-guestagent";
        return vec![Finding::failed(
            AGENT,
            format!("nobody answers at {}", crate::monitor::socket_path(&patient.settings.state_dir)),
            advice,
        )];
    };
    let mut findings = vec![match &agent.phase {
        Phase::Failed { reason, was_in_service } => {
            let advice = if *was_in_service {
                "mend it, then restart the database by the controller: the instance is back when it answers"
            } else {
                "look at its log; the controller has to delete the instance, or prepare it again"
            };
            Finding::failed(AGENT, format!("the instance FAILED: {reason}"), advice)
        }
        phase => Finding::ok(AGENT, format!("version {} runs as process {}; the instance is {}", agent.version, agent.pid, phase.name())),
    }];
    if agent.version != env!("CARGO_PKG_VERSION") {
        let found = format!("the agent that runs is {}, and the one that is installed {}", agent.version, env!("CARGO_PKG_VERSION"));
        findings.push(Finding::warning(AGENT, found, "systemctl restart trove-guestagent: nothing that is under way is lost"));
    }
    if (&agent.guest_id, &agent.datastore_manager) != (&patient.settings.guest_id, &patient.settings.datastore_manager) {
        let found = format!("it runs as {} ({}), and not as the configuration says", agent.guest_id, agent.datastore_manager);
        findings.push(Finding::failed(AGENT, found, "systemctl restart trove-guestagent, if the configuration is right"));
    }
    findings
}

pub(super) fn heartbeat(patient: &Patient) -> Vec<Finding> {
    let Some(agent) = &patient.agent else { return vec![Finding::skipped(HEARTBEAT, "the agent does not run")] };
    let interval = patient.settings.report_interval;
    let since = |moment: f64| Duration::from_secs_f64((journal::now() - moment).max(0.0));
    let advice = "the broker or the conductor is out of reach: see below";
    vec![match &agent.last_heartbeat {
        _ if agent.phase == Phase::New => {
            Finding::skipped(HEARTBEAT, "there is nothing to tell before the controller has prepared this guest")
        }
        Some(last) if since(last.at) < interval * LATE => {
            Finding::ok(HEARTBEAT, format!("told the conductor '{}' {} s ago", last.status, since(last.at).as_secs()))
        }
        // BUILDING is told once (`StatusTracker::report`).
        _ if matches!(agent.phase, Phase::Preparing { .. }) => Finding::skipped(
            HEARTBEAT,
            "silent on purpose: the controller waits for the end of the preparation; trove-guestctl status shows how far it is",
        ),
        Some(last) if !agent.operations.is_empty() => {
            let found = format!("the last was {} s ago; an operation that keeps it quiet is under way", since(last.at).as_secs());
            Finding::warning(HEARTBEAT, found, "trove-guestctl status")
        }
        Some(last) => Finding::failed(HEARTBEAT, format!("the last was {} s ago", since(last.at).as_secs()), advice),
        None if since(agent.started) < interval * LATE => Finding::skipped(HEARTBEAT, "the agent has just started"),
        None => Finding::failed(HEARTBEAT, "none since the agent was started", advice),
    }]
}

pub(super) fn journal(patient: &Patient) -> Vec<Finding> {
    let look = match Journal::look(&patient.settings.state_dir) {
        Ok(look) => look,
        Err(error) => return vec![Finding::failed(JOURNAL, error.to_string(), "nothing can be accepted without it: see to the disk")],
    };
    let mut findings = Vec::new();
    for path in &look.damaged {
        let advice = "the operation in it was not carried out: ask the controller for it again, then remove the file";
        findings.push(Finding::warning(JOURNAL, format!("{path} could not be read when the agent started"), advice));
    }
    let age = look.oldest.map(|received| journal::now() - received);
    let counts = format!("{} waiting, {} under way, {} whose end is to be told", look.accepted, look.started, look.ended);
    findings.push(match (look.accepted + look.started + look.ended, age) {
        (0, _) => Finding::ok(JOURNAL, "nothing is open"),
        (_, _) if patient.agent.is_none() => Finding::warning(JOURNAL, counts, "start the agent: it finishes or reports them"),
        (_, Some(age)) if age > LONG => {
            let found = format!("{counts}; the oldest came {:.0} hours ago", age / 3600.0);
            Finding::warning(JOURNAL, found, "trove-guestctl status shows whether it moves")
        }
        _ => Finding::ok(JOURNAL, counts),
    });
    findings
}
