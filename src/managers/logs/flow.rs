//! `guest_log_list` and `guest_log_action`, whatever the datastore (trove/guestagent/datastore/manager.py).

use std::sync::Arc;

use serde::Serialize;

use super::definition::{GuestLogs, LogAction, LogDefinition, LogKind, LogState};
use super::publication::{Publication, Standing};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::model::Release;
use crate::op::Op;
use crate::strategies::storage::{ObjectStore, object_store_for};

/// Name of the agent's own log.
pub(super) const OWN_LOG: &str = "guest";
/// Where Trove's agent writes its log when it is not told.
const OWN_FILE: &str = "/var/log/trove/trove-guestagent.log";
const NONE: &str = "None";

/// What the flow needs besides the datastore.
#[derive(Debug, Clone)]
pub struct LogEnv {
    /// The agent's configuration.
    pub settings: Arc<Settings>,
    /// The controller's release: its words for the state of a log.
    pub release: Release,
    /// [`crate::managers::Descriptor::exposed_logs`].
    pub exposed: &'static [&'static str],
}

/// A log as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogDetails {
    /// Its name.
    pub name: &'static str,
    /// `SYS` or `USER`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `Disabled`, `Enabled`, `Unavailable`, `Ready`, `Published`, `Partial`, `Rotated` or `Restart Required`.
    pub status: &'static str,
    /// Bytes that are stored.
    pub published: u64,
    /// Bytes that are not.
    pub pending: u64,
    /// Container of the pieces, or the word `None`.
    pub container: String,
    /// What the names of the pieces begin with, or the word `None`.
    pub prefix: String,
    /// Name of the object that says how much is stored.
    pub metafile: String,
}

/// The logs this caller may see.
///
/// # Errors
/// The database or the object store cannot be asked.
pub async fn list(op: &Op, env: &LogEnv, logs: &dyn GuestLogs) -> Result<Vec<LogDetails>> {
    let mut seen = definitions(op, env, logs).await?;
    seen.retain(|log| is_exposed(op, env, log));
    let mut details = Vec::with_capacity(seen.len());
    if !seen.is_empty() {
        let store = object_store_for(op, &env.settings).await?;
        for log in &seen {
            details.push(show(op, env, &*store, log).await?);
        }
    }
    Ok(details)
}

/// Does what is asked, in Trove's order: switch, discard, publish. Publishing switches on, unless told to switch off.
///
/// # Errors
/// There is no such log, this caller may not see it, or it cannot be switched; those of database and store.
pub async fn action(op: &Op, env: &LogEnv, logs: &dyn GuestLogs, request: &LogAction) -> Result<LogDetails> {
    let name = &request.log_name;
    if request.enable && request.disable {
        return Err(Error::bad_request(format!("Cannot enable and disable log '{}'.", name.escape_debug())));
    }
    let find = |found: Vec<LogDefinition>| found.into_iter().find(|log| log.name == name);
    let undefined = || Error::NotFound { message: format!("Log '{}' is not defined.", name.escape_debug()) };
    let mut log = find(definitions(op, env, logs).await?).ok_or_else(undefined)?;
    if !is_exposed(op, env, &log) {
        return Err(Error::LogAccessForbidden { log: log.name.to_owned() });
    }
    let store = object_store_for(op, &env.settings).await?;
    match log.kind {
        LogKind::System if !request.publish && (request.enable || request.disable) => {
            let verb = if request.enable { "enable" } else { "disable" };
            return Err(Error::bad_request(format!("Cannot {verb} a SYSTEM log ('{name}').")));
        }
        LogKind::System => {}
        LogKind::User(state) => {
            let wanted = (request.enable || request.publish) && !request.disable;
            let is_on = state != LogState::Off;
            if (wanted && !is_on) || (request.disable && is_on) {
                tracing::info!(log = log.name, on = wanted, "switching a log");
                logs.switch(op, log.name, wanted).await?;
                log = find(definitions(op, env, logs).await?).ok_or_else(undefined)?;
            }
        }
    }
    let publication = Publication::new(&env.settings, &*store, &log);
    if request.discard {
        publication.discard(op).await?;
    }
    if request.publish {
        publication.publish(op).await?;
    }
    show(op, env, &*store, &log).await
}

async fn definitions(op: &Op, env: &LogEnv, logs: &dyn GuestLogs) -> Result<Vec<LogDefinition>> {
    let mut all = logs.definitions(op).await?;
    let file = env.settings.log.file.clone().unwrap_or_else(|| OWN_FILE.into());
    all.push(LogDefinition { name: OWN_LOG, kind: LogKind::System, file });
    Ok(all)
}

fn is_exposed(op: &Op, env: &LogEnv, log: &LogDefinition) -> bool {
    op.context.is_admin
        || match &env.settings.guest_log.exposed {
            Some(names) => names.iter().any(|name| name == "all" || name == log.name),
            None => env.exposed.contains(&log.name),
        }
}

async fn show(op: &Op, env: &LogEnv, store: &dyn ObjectStore, log: &LogDefinition) -> Result<LogDetails> {
    let publication = Publication::new(&env.settings, store, log);
    let standing = publication.standing(op).await?;
    let names = publication.names();
    let stored = |text: String| if standing.published > 0 { text } else { NONE.to_owned() };
    Ok(LogDetails {
        name: log.name,
        kind: log.kind.word(),
        status: status(log.kind, &standing, env.release),
        published: standing.published,
        pending: if standing.rotated { standing.size } else { standing.size.saturating_sub(standing.published) },
        container: stored(names.container().to_owned()),
        prefix: stored(names.prefix()),
        metafile: names.metafile().object,
    })
}

/// Trove's word (trove/guestagent/guest_log.py: `_update_details`). Up to Victoria a system log without content was `Unavailable`.
fn status(kind: LogKind, standing: &Standing, release: Release) -> &'static str {
    match kind {
        LogKind::User(LogState::Off) => return "Disabled",
        LogKind::User(LogState::AfterRestart) => return "Restart Required",
        LogKind::User(LogState::On) | LogKind::System => {}
    }
    match (standing.rotated, standing.size > standing.published, standing.published > 0) {
        (true, ..) => "Rotated",
        (false, true, true) => "Partial",
        (false, true, false) => "Ready",
        (false, false, true) => "Published",
        (false, false, false) if kind == LogKind::System && release <= Release::Train => "Unavailable",
        (false, false, false) => "Enabled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_both_eras() {
        let standing = |size, published, rotated| Standing { size, published, rotated };
        let (on, off, later) = (LogKind::User(LogState::On), LogKind::User(LogState::Off), LogKind::User(LogState::AfterRestart));
        let word = |kind, standing: Standing| status(kind, &standing, Release::Gazpacho);
        assert_eq!(word(off, standing(5, 2, true)), "Disabled");
        assert_eq!(word(later, standing(0, 0, false)), "Restart Required");
        assert_eq!(word(on, standing(0, 0, false)), "Enabled");
        assert_eq!(word(on, standing(5, 0, false)), "Ready");
        assert_eq!(word(on, standing(5, 2, false)), "Partial");
        assert_eq!(word(LogKind::System, standing(5, 5, false)), "Published");
        assert_eq!(word(LogKind::System, standing(3, 5, true)), "Rotated");
        assert_eq!(word(LogKind::System, standing(0, 0, false)), "Enabled");
        assert_eq!(status(LogKind::System, &standing(0, 0, false), Release::Train), "Unavailable");
        assert_eq!(status(on, &standing(0, 0, false), Release::Train), "Enabled");
    }
}
