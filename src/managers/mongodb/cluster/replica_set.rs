//! [`State`]: a replica set as one of its members sees it.

use mongodb::bson::{Bson, Document, doc};

use crate::error::{Error, Result};
use crate::model::MemberRole;

/// `replSetInitiate` was called before (src/mongo/base/error_codes.yml: `AlreadyInitialized`).
pub(super) const ALREADY_INITIALIZED: u16 = 23;
/// It has not been called yet (`NotYetInitialized`).
pub(super) const NOT_YET_INITIALIZED: u16 = 94;

/// The server is no primary (`NotWritablePrimary`).
pub(super) const NO_PRIMARY: u16 = 10107;
/// The server is in no set, or is not that far yet (`NotPrimaryOrSecondary`).
pub(in crate::managers::mongodb) const NOT_IN_A_SET: u16 = 13436;

/// Whether a call failed because another member is the primary now, or none is (`PrimarySteppedDown`, `ShutdownInProgress`, `InterruptedAtShutdown`,
/// `InterruptedDueToReplStateChange`), or because it was sent to one that is none ([`is_refusal`]).
pub(super) fn is_failover(error: &Error) -> bool {
    is_refusal(error) || matches!(error.database_code(), Some(189 | 91 | 11600 | 11602))
}

/// Whether a member did not even begin: it is no primary (`NotWritablePrimary`, `NotPrimaryNoSecondaryOk`, `NotPrimaryOrSecondary`).
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(error.database_code(), Some(NO_PRIMARY | 13435 | NOT_IN_A_SET))
}

/// Whether nobody has answered.
pub(super) fn is_silence(error: &Error) -> bool {
    match error {
        Error::During { source, .. } => is_silence(source),
        Error::Io { .. } | Error::Timeout { .. } => true,
        _ => false,
    }
}

/// Whether the time was over before there was an answer.
pub(super) fn is_cut_short(error: &Error) -> bool {
    match error {
        Error::During { source, .. } => is_cut_short(source),
        Error::Timeout { .. } => true,
        _ => false,
    }
}

/// Whether a set that is being made may be further at another attempt: another member is the primary, or nobody answers, or the set changes already
/// (`ConfigurationInProgress`, `CurrentConfigNotCommittedYet`, `NewReplicaSetConfigurationIncompatible` when two changes meet), or it has not become one yet
/// (`NotYetInitialized`).
pub(super) fn may_pass(error: &Error) -> bool {
    is_failover(error) || is_silence(error) || matches!(error.database_code(), Some(109 | 308 | 103 | NOT_YET_INITIALIZED))
}

/// A member in the answer to `replSetGetStatus`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MemberState {
    pub(super) name: String,
    /// It is the one that was asked.
    pub(super) is_self: bool,
    /// 1 primary, 2 secondary, 7 arbiter (manual, "Replica Set Member States").
    pub(super) state: i64,
    pub(super) word: String,
    pub(super) is_healthy: bool,
    /// Why it cannot be reached, in the server's words.
    pub(super) message: String,
}

/// What `replSetGetStatus` says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    pub(super) set: String,
    pub(super) members: Vec<MemberState>,
}

fn number(value: Option<&Bson>) -> i64 {
    let whole = |value: &Bson| value.as_i64().or(value.as_i32().map(i64::from)).or(value.as_f64().map(|value| value as i64));
    value.and_then(whole).unwrap_or(-1)
}

impl State {
    pub(super) fn parse(status: &Document) -> Result<State> {
        let unreadable = || Error::guest("the server's word about its replica set is none that servers give");
        let set = status.get_str("set").map_err(|_| unreadable())?.to_owned();
        let members = status.get_array("members").map_err(|_| unreadable())?;
        let members = members.iter().map(|member| {
            let member = member.as_document()?;
            let text = |key: &str| member.get_str(key).unwrap_or_default().to_owned();
            Some(MemberState {
                name: member.get_str("name").ok()?.to_owned(),
                is_self: member.get_bool("self").unwrap_or(false),
                state: number(member.get("state")),
                word: text("stateStr"),
                is_healthy: number(member.get("health")) == 1,
                message: text("lastHeartbeatMessage"),
            })
        });
        Ok(State { set, members: members.collect::<Option<_>>().ok_or_else(unreadable)? })
    }

    /// The member that is the primary.
    pub(super) fn primary(&self) -> Option<&str> {
        self.members.iter().find(|member| member.state == 1 && member.is_healthy).map(|member| member.name.as_str())
    }

    /// The part of the member that was asked.
    pub(super) fn own_role(&self) -> Option<MemberRole> {
        let own = self.members.iter().find(|member| member.is_self)?;
        let secondaries = self.members.iter().filter(|member| member.state == 2 && member.is_healthy).count();
        Some(match (own.state, self.primary()) {
            (1, _) => MemberRole::Primary { replicas: u64::try_from(secondaries).unwrap_or_default() },
            (2, Some(primary)) => MemberRole::Replica { source: primary.to_owned(), trouble: None },
            _ => {
                let trouble = Some(format!("it is in state {}, and the set has {} members", own.word, self.members.len()));
                MemberRole::Replica { source: self.primary().unwrap_or("nobody").to_owned(), trouble }
            }
        })
    }

    /// What is still missing until all of `hosts` serve with one primary; `None` when nothing is.
    pub(super) fn missing(&self, hosts: &[String]) -> Option<String> {
        for host in hosts {
            let Some(member) = self.members.iter().find(|member| member.name == *host) else {
                return Some(format!("{host} is no member yet"));
            };
            if !member.is_healthy {
                let why = if member.message.is_empty() { String::new() } else { format!(": {}", member.message) };
                return Some(format!("{host} is not reached{why}"));
            }
            if !matches!(member.state, 1 | 2 | 7) {
                return Some(format!("{host} is in state {}", member.word));
            }
        }
        match self.members.iter().filter(|member| member.state == 1).count() {
            1 => None,
            0 => Some("there is no primary".to_owned()),
            count => Some(format!("there are {count} primaries")),
        }
    }
}

/// The configuration of a new set with one member.
pub(super) fn first_configuration(set: &str, host: &str, is_config: bool) -> Document {
    let mut configuration = doc! { "_id": set, "version": 1, "members": [{ "_id": 0, "host": host }] };
    if is_config {
        configuration.insert("configsvr", true);
    }
    configuration
}

/// `configuration` with one member more; `None` when it is one already.
pub(super) fn with_member(configuration: &Document, host: &str) -> Result<Option<Document>> {
    let unreadable = |_| Error::guest("the replica set's configuration is none that servers give");
    let mut configuration = configuration.clone();
    let version = number(configuration.get("version")) + 1;
    let members = configuration.get_array_mut("members").map_err(unreadable)?;
    let names = || members.iter().filter_map(Bson::as_document);
    if names().any(|member| member.get_str("host").is_ok_and(|other| other == host)) {
        return Ok(None);
    }
    let id = names().map(|member| number(member.get("_id"))).max().unwrap_or(-1) + 1;
    members.push(Bson::Document(doc! { "_id": id, "host": host }));
    configuration.insert("version", version);
    Ok(Some(configuration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_its_member() {
        let member =
            |name: &str, health: f64, state: i32, word: &str| doc! { "name": name, "health": health, "state": state, "stateStr": word };
        let state = |members: Vec<Document>| State::parse(&doc! { "set": "rs1", "members": members, "ok": 1.0 }).unwrap();
        let hosts = ["a:1".to_owned(), "b:1".to_owned()];
        let whole = state(vec![member("a:1", 1.0, 1, "PRIMARY"), member("b:1", 1.0, 2, "SECONDARY")]);
        assert_eq!(whole.missing(&hosts), None);
        let alone = state(vec![member("a:1", 1.0, 1, "PRIMARY")]);
        assert_eq!(alone.missing(&hosts).unwrap(), "b:1 is no member yet");
        let mut cut_off = member("b:1", 0.0, 8, "(not reachable/healthy)");
        cut_off.insert("lastHeartbeatMessage", "Connection refused");
        assert_eq!(
            state(vec![member("a:1", 1.0, 1, "PRIMARY"), cut_off]).missing(&hosts).unwrap(),
            "b:1 is not reached: Connection refused"
        );
        let starting = state(vec![member("a:1", 1.0, 1, "PRIMARY"), member("b:1", 1.0, 5, "STARTUP2")]);
        assert_eq!(starting.missing(&hosts).unwrap(), "b:1 is in state STARTUP2");
        let headless = state(vec![member("a:1", 1.0, 2, "SECONDARY"), member("b:1", 1.0, 2, "SECONDARY")]);
        assert_eq!(headless.missing(&hosts).unwrap(), "there is no primary");
        assert!(State::parse(&doc! { "ok": 1 }).is_err());
    }

    #[test]
    fn a_member_knows_its_part() {
        let member = |name: &str, state: i32, word: &str, is_self: bool| doc! { "name": name, "health": 1.0, "state": state, "stateStr": word, "self": is_self };
        let role = |members: Vec<Document>| State::parse(&doc! { "set": "rs1", "members": members }).unwrap().own_role();
        let primary = role(vec![member("a:1", 1, "PRIMARY", true), member("b:1", 2, "SECONDARY", false)]);
        assert_eq!(primary, Some(MemberRole::Primary { replicas: 1 }));
        let secondary = role(vec![member("a:1", 1, "PRIMARY", false), member("b:1", 2, "SECONDARY", true)]);
        assert_eq!(secondary, Some(MemberRole::Replica { source: "a:1".into(), trouble: None }));
        let Some(MemberRole::Replica { trouble: Some(trouble), .. }) = role(vec![member("b:1", 2, "SECONDARY", true)]) else { panic!() };
        assert!(trouble.contains("SECONDARY"), "{trouble}");
        assert_eq!(role(vec![member("a:1", 1, "PRIMARY", false)]), None);
    }

    #[test]
    fn a_member_is_added_once() {
        let first = first_configuration("rs1", "a:1", false);
        let two = with_member(&first, "b:1").unwrap().unwrap();
        assert_eq!(two, doc! { "_id": "rs1", "version": 2_i64, "members": [{ "_id": 0, "host": "a:1" }, { "_id": 1_i64, "host": "b:1" }] });
        assert_eq!(with_member(&two, "b:1").unwrap(), None);
        assert!(first_configuration("c", "a:1", true).get_bool("configsvr").unwrap());
    }
}
