//! [`Running`]: the running server brought in line with its files (`CONFIG SET`).

use std::collections::BTreeSet;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::configuration::{Change, Conf, Configuration};
use super::directives::Directives;
use crate::codec::{Document, RedisConf};
use crate::error::{Error, Result};
use crate::managers::configuration::{Group, Pending};
use crate::op::Op;
use crate::system::redis::{Client, Session};
use crate::system::service::{ServiceControl, UnitState};

/// What a private server does not get to see, and the value it has when no file says anything.
const UNSEEN: &[(&str, &str)] = &[
    ("appendonly", "no"),
    ("bind", "* -::*"),
    ("masterauth", ""),
    ("masteruser", ""),
    ("port", "6379"),
    ("requirepass", ""),
    ("save", "3600 1 300 100 60 10000"),
    ("tls-cluster", "no"),
    ("tls-port", "0"),
    ("tls-replication", "no"),
];
/// Set by commands of their own.
const BY_COMMAND: &[&str] = &["rename-command", "replicaof", "slaveof", "user"];

/// A way to the running server, if it runs.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) client: Client,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) pending: Arc<Pending>,
}

/// Directives as `CONFIG SET` wants them: all arguments of all lines.
pub(super) fn joined(conf: &RedisConf, name: &str) -> SecretString {
    conf.directive(name).into_iter().flatten().collect::<Vec<String>>().join(" ").into()
}

/// Names in a layer.
pub(super) fn names(conf: &Conf, group: Group, id: &str) -> BTreeSet<String> {
    conf.change(group, id).into_iter().flat_map(RedisConf::names).collect()
}

impl Running {
    pub(super) async fn is_up(&self, op: &Op) -> Result<bool> {
        Ok(matches!(self.service.state(op).await?, UnitState::Running { .. }))
    }

    /// What the server would use from its files when it starts.
    fn target(change: &Change, merged: &RedisConf, name: &str) -> Option<SecretString> {
        if let Some((_, default)) = UNSEEN.iter().find(|(unseen, _)| *unseen == name) {
            let written = merged.get(&[name]).is_some();
            return Some(if written { joined(merged, name) } else { (*default).into() });
        }
        change.parameters.get(name).cloned()
    }

    /// Sets parameters, all of them or none. Those that the server takes at its start only are returned.
    ///
    /// # Errors
    /// The server refuses a value.
    pub(super) async fn set(&self, op: &Op, wanted: Vec<(String, SecretString)>) -> Result<Vec<String>> {
        let mut session = self.client.session(op).await?;
        let (together, wanted) = apart(wanted);
        let (mut old, mut waiting): (Vec<(String, SecretString)>, Vec<String>) = (Vec::new(), Vec::new());
        for (name, value) in wanted {
            let before = session.parameters(op, &name).await?.remove(&name);
            if before.as_ref().is_some_and(|before| before.expose_secret() == value.expose_secret()) {
                continue;
            }
            match session.set_parameter(op, &name, value).await {
                Ok(()) => old.extend(before.map(|before| (name, before))),
                Err(error) if is_fixed(&error) && before.is_some() => waiting.push(name),
                Err(error) => {
                    put_back(op, &mut session, old).await;
                    return Err(error);
                }
            }
        }
        if together.is_empty() {
            return Ok(waiting);
        }
        let names: Vec<String> = together.iter().map(|(name, _)| name.clone()).collect();
        match session.set_parameters(op, together).await {
            Ok(()) => {}
            Err(error) if takes_one_at_a_time(&error) => waiting.extend(names),
            Err(error) => {
                put_back(op, &mut session, old).await;
                return Err(error);
            }
        }
        Ok(waiting)
    }

    /// Brings `names` of the running server in line with a change that is in the files. True when some of it waits for a restart.
    ///
    /// # Errors
    /// Those of [`Self::set`].
    pub(super) async fn settle(&self, op: &Op, change: &Change, names: &BTreeSet<String>) -> Result<bool> {
        if names.is_empty() || !self.is_up(op).await? {
            return Ok(false);
        }
        let merged = change.after.merged()?;
        let settable = names.iter().filter(|name| !BY_COMMAND.contains(&name.as_str()));
        let wanted: Vec<_> = settable.filter_map(|name| Some((name.clone(), Running::target(change, &merged, name)?))).collect();
        let changed: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
        let waiting = self.set(op, wanted).await?;
        self.pending.settle(op, &*self.service, &changed, &waiting).await?;
        Ok(!waiting.is_empty())
    }

    /// Writes a layer of the agent's own (none: removes it), and brings the running server in line with it. True when some of it waits for a restart.
    ///
    /// # Errors
    /// The server refuses something; files and server are as they were.
    pub(super) async fn change_system(&self, op: &Op, id: &str, document: Option<RedisConf>) -> Result<bool> {
        let change = self.configuration.change_system(op, id, document).await?;
        let names = &names(&change.before, Group::System, id) | &names(&change.after, Group::System, id);
        match self.settle(op, &change, &names).await {
            Err(error) if !op.cancel.is_cancelled() => {
                let before = change.before.change(Group::System, id).cloned();
                self.configuration.change_system(op, id, before).await?;
                Err(error)
            }
            other => other,
        }
    }
}

type Wanted = Vec<(String, SecretString)>;

/// Parameters of which the server takes no one without the others: a certificate without its key, or a port that another listener has still. They are told apart when TLS is
/// among them.
fn apart(wanted: Wanted) -> (Wanted, Wanted) {
    if !wanted.iter().any(|(name, _)| name.starts_with("tls-")) {
        return (Vec::new(), wanted);
    }
    let (mut together, others): (Wanted, Wanted) = wanted.into_iter().partition(|(name, _)| name.starts_with("tls-") || name == "port");
    // They take effect in this order: who gives up a port comes before who takes it.
    together.sort_by_key(|(name, value)| name == "port" && value.expose_secret() != "0");
    (together, others)
}

/// The words of servers before 7 for several parameters at once.
fn takes_one_at_a_time(error: &Error) -> bool {
    matches!(error, Error::Database { message, .. } if message.contains("wrong number of arguments") || message.contains("Wrong number of arguments"))
}

/// The server's words for a parameter it takes at its start only (src/config.c: `configSetCommand`): it has no code for it.
fn is_fixed(error: &Error) -> bool {
    match error {
        Error::Database { message, .. } => message.contains("immutable config") || message.contains("Unsupported CONFIG parameter"),
        _ => false,
    }
}

async fn put_back(op: &Op, session: &mut Session, old: Vec<(String, SecretString)>) {
    for (name, value) in old.into_iter().rev() {
        if let Err(error) = session.set_parameter(op, &name, value).await {
            tracing::error!(%error, parameter = name, "failed to put a parameter back to what it was");
        }
    }
}
