//! The database, and the tool that makes its backups.

use super::finding::Finding;
use super::patient::Patient;
use crate::model::ServiceStatus;
use crate::status::Phase;

const DATABASE: &str = "database";
const TOOL: &str = "backup tool";

/// True when there is no database yet, and none is missed.
fn is_unprepared(patient: &Patient) -> bool {
    matches!(patient.phase, Some(Phase::New | Phase::Preparing { .. }))
}

pub(super) async fn check(patient: &Patient) -> Vec<Finding> {
    if is_unprepared(patient) {
        return vec![Finding::skipped(DATABASE, "the instance is not prepared")];
    }
    let status = patient.manager.status().probe(&patient.op).await;
    let name = patient.manager.descriptor().name;
    let log = "look at the server's log; `restart` by the controller starts it";
    let finding = match status {
        ServiceStatus::Running => Finding::ok(DATABASE, format!("{name} answers")),
        ServiceStatus::RestartRequired => Finding::warning(
            DATABASE,
            format!("{name} answers, and some of its configuration waits for a restart"),
            "restart the instance by the controller",
        ),
        ServiceStatus::Blocked => {
            Finding::failed(DATABASE, format!("{name} runs and does not answer"), "look at the server's log, its connections and its disk")
        }
        ServiceStatus::Shutdown => Finding::failed(DATABASE, format!("{name} is stopped"), log),
        ServiceStatus::Crashed => Finding::failed(DATABASE, format!("{name} has ended by itself"), log),
        other => {
            let word: &str = other.into();
            Finding::failed(DATABASE, format!("{name}: {word}"), log)
        }
    };
    vec![finding]
}

pub(super) async fn tool(patient: &Patient) -> Vec<Finding> {
    let Some(backups) = patient.manager.backups() else { return vec![Finding::skipped(TOOL, "this datastore has no backups")] };
    if is_unprepared(patient) {
        return vec![Finding::skipped(TOOL, "the instance is not prepared")];
    }
    vec![match backups.runner(&patient.op, false).await {
        Ok(runner) => Finding::ok(TOOL, runner.name()),
        Err(error) => {
            Finding::failed(TOOL, error.to_string(), "install the tool of the server's own series, or choose another backup_strategy")
        }
    }]
}
