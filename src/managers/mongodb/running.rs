//! [`Running`]: the running server brought in line with its files (`setParameter`, `profile`). The server itself tells which of its parameters it takes while it
//! runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use mongodb::bson::{Bson, Document, doc};
use serde_json::Value;

use super::admin::ADMIN;
use super::configuration::Configuration;
use crate::error::{Error, Result};
use crate::managers::configuration::Pending;
use crate::op::Op;
use crate::system::mongodb::{Client, Session};
use crate::system::service::{ServiceControl, UnitState};

/// Options of the file that are a parameter by another name (manual, "MongoDB Server Parameters").
const PARAMETERS: [(&str, &str); 5] = [
    ("storage.journal.commitIntervalMs", "journalCommitInterval"),
    ("storage.syncPeriodSecs", "syncdelay"),
    ("systemLog.quiet", "quiet"),
    ("systemLog.traceAllExceptions", "traceExceptions"),
    ("systemLog.verbosity", "logLevel"),
];
/// Verbosity of one component: `systemLog.component.<component>.verbosity`.
const COMPONENT: &str = "systemLog.component.";
const VERBOSITY: &str = ".verbosity";
/// What is slow, set by a command of its own.
const SLOW: [(&str, &str); 2] = [("operationProfiling.slowOpThresholdMs", "slowms"), ("operationProfiling.slowOpSampleRate", "sampleRate")];

/// How an option gets into the running server.
#[derive(Debug, PartialEq)]
enum Way {
    /// `setParameter` with this document.
    Parameter(String, Bson),
    /// `profile` with this field; the level stays.
    Profile(&'static str, Bson),
    /// It is read at the start.
    Start,
}

/// A way to the running server, if it runs.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) client: Client,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) pending: Arc<Pending>,
}

fn bson(value: &Value) -> Bson {
    match value {
        // The server wants the narrowest type there.
        Value::Number(number) => match number.as_i64() {
            Some(whole) => i32::try_from(whole).map_or(Bson::Int64(whole), Bson::Int32),
            None => Bson::Double(number.as_f64().unwrap_or_default()),
        },
        Value::Bool(flag) => Bson::Boolean(*flag),
        Value::String(text) => Bson::String(text.clone()),
        Value::Array(items) => Bson::Array(items.iter().map(bson).collect()),
        Value::Object(fields) => Bson::Document(fields.iter().map(|(name, value)| (name.clone(), bson(value))).collect()),
        Value::Null => Bson::Null,
    }
}

/// `a.b.verbosity` of a component, as `logComponentVerbosity` has it.
fn component(name: &str, value: Bson) -> Option<Bson> {
    let path = name.strip_prefix(COMPONENT)?.strip_suffix(VERBOSITY)?;
    let innermost: Bson = doc! {"verbosity": value}.into();
    Some(path.rsplit('.').fold(innermost, |inner, part| doc! {part: inner}.into()))
}

fn way(name: &str, value: &Value) -> Way {
    let value = bson(value);
    if let Some((_, parameter)) = PARAMETERS.iter().find(|(option, _)| *option == name) {
        return Way::Parameter((*parameter).to_owned(), value);
    }
    if let Some((_, field)) = SLOW.iter().find(|(option, _)| *option == name) {
        return Way::Profile(field, value);
    }
    if let Some(verbosity) = component(name, value.clone()) {
        return Way::Parameter("logComponentVerbosity".into(), verbosity);
    }
    name.strip_prefix("setParameter.").map_or(Way::Start, |parameter| Way::Parameter(parameter.to_owned(), value))
}

impl Running {
    pub(super) async fn is_up(&self, op: &Op) -> Result<bool> {
        Ok(matches!(self.service.state(op).await?, UnitState::Running { .. }))
    }

    /// Sets options, all of them or none. Those that the server takes at its start only are returned.
    ///
    /// # Errors
    /// The server refuses a value.
    pub(super) async fn set(&self, op: &Op, wanted: &BTreeMap<String, Value>) -> Result<Vec<String>> {
        let session = self.client.session(op).await?;
        let (mut undo, mut waiting): (Vec<Document>, Vec<String>) = (Vec::new(), Vec::new());
        for (name, value) in wanted {
            let set = match way(name, value) {
                Way::Parameter(parameter, value) => parameter_set(op, &session, &parameter, value).await,
                Way::Profile(field, value) => profile_set(op, &session, field, value).await,
                Way::Start => Ok(None),
            };
            match set {
                Ok(Some(before)) => undo.push(before),
                Ok(None) => waiting.push(name.clone()),
                Err(error) => {
                    put_back(op, &session, undo).await;
                    return Err(error);
                }
            }
        }
        Ok(waiting)
    }

    /// Notes what of `changed` the running server does not have.
    ///
    /// # Errors
    /// Those of [`Pending::settle`].
    pub(super) async fn note(&self, op: &Op, changed: &[String], waiting: &[String]) -> Result<()> {
        self.pending.settle(op, &*self.service, changed, waiting).await
    }
}

/// Sets a parameter, and returns the command that takes it back; `None` when the server takes it at its start only.
async fn parameter_set(op: &Op, session: &Session, name: &str, value: Bson) -> Result<Option<Document>> {
    let mut ask = doc! {"getParameter": {"showDetails": true}};
    ask.insert(name, 1);
    let told = session.run(op, &format!("read the parameter {name}"), ADMIN, ask).await?;
    let Some(details) = told.get(name) else {
        return Err(Error::bad_request(format!("the server has no parameter '{}'", name.escape_debug())));
    };
    // Before 4.4 there were no details: the server refuses then what it does not take.
    let details = details.as_document();
    if details.is_some_and(|details| details.get_bool("settableAtRuntime").is_ok_and(|settable| !settable)) {
        return Ok(None);
    }
    let before = details.and_then(|details| details.get("value")).or_else(|| told.get(name)).cloned();
    let mut command = doc! {"setParameter": 1};
    command.insert(name, value);
    session.run(op, &format!("set the parameter {name}"), ADMIN, command).await?;
    let mut undo = doc! {"setParameter": 1};
    undo.insert(name, before.unwrap_or(Bson::Null));
    Ok(Some(undo))
}

async fn profile_set(op: &Op, session: &Session, field: &'static str, value: Bson) -> Result<Option<Document>> {
    let told = session.run(op, "read the profiler's settings", ADMIN, doc! {"profile": -1}).await?;
    // -1 changes no level (src/mongo/db/commands/profile_common.cpp).
    let mut command = doc! {"profile": -1};
    command.insert(field, value);
    session.run(op, &format!("set the profiler's {field}"), ADMIN, command).await?;
    let mut undo = doc! {"profile": -1};
    undo.insert(field, told.get(field).cloned().unwrap_or(Bson::Null));
    Ok(Some(undo))
}

async fn put_back(op: &Op, session: &Session, undo: Vec<Document>) {
    for command in undo.into_iter().rev() {
        if let Err(error) = session.run(op, "put a parameter back to what it was", ADMIN, command).await {
            tracing::error!(%error, "failed to put a parameter back to what it was");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_know_their_way() {
        assert_eq!(way("systemLog.verbosity", &json!(2)), Way::Parameter("logLevel".into(), Bson::Int32(2)));
        let nested: Bson = doc! {"storage": {"journal": {"verbosity": 1}}}.into();
        assert_eq!(way("systemLog.component.storage.journal.verbosity", &json!(1)), Way::Parameter("logComponentVerbosity".into(), nested));
        assert_eq!(way("operationProfiling.slowOpThresholdMs", &json!(5)), Way::Profile("slowms", Bson::Int32(5)));
        assert_eq!(way("setParameter.ttlMonitorEnabled", &json!(false)), Way::Parameter("ttlMonitorEnabled".into(), Bson::Boolean(false)));
        assert_eq!(way("net.maxIncomingConnections", &json!(7)), Way::Start);
    }
}
