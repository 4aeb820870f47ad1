//! Replication on the wire: `snapshot`, `replica_info`, the context of a source, and the last transaction of a replica
//! (trove/guestagent/datastore/manager.py: get_replication_snapshot; trove/guestagent/strategies/replication).
//!
//! The controller carries these dictionaries from one guest to another without looking into most of them. What a strategy needs beyond the
//! common parts travels in [`ReplicaContext::log_position`] and [`Source::extra`], opaque to everything but that strategy.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Overrides, Release};

/// Values only a strategy understands. Printed by their names alone: a strategy may have put a secret there.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opaque(pub Map<String, Value>);

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Opaque {
    /// A text value.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

/// `master`: where the source is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Source {
    /// Address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What else the strategy has put there (Redis: `requirepass`; the task manager: `id`).
    #[serde(flatten)]
    pub extra: Opaque,
}

/// TLS of a source, as its replicas are told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTls {
    /// The authority that its certificate is to be verified with, in PEM; unknown to whoever uses certificates without one.
    #[serde(default)]
    pub ca: Option<String>,
    /// Its certificate, in PEM: says which names a replica can hold it to.
    #[serde(default)]
    pub certificate: Option<String>,
}

impl SourceTls {
    /// Key in `master` of an agent of this kind. Those of 2026.1 send `ssl_mode` and, with their private key, `cert_container`; and both only with
    /// a snapshot, so that their replicas lose TLS when their source changes.
    pub const KEY: &str = "tls";
}

/// The account a replica logs in to its source with.
#[derive(Debug, Clone, Deserialize)]
pub struct ReplicationUser {
    /// Account name.
    pub name: String,
    /// Password.
    pub password: SecretString,
}

impl ReplicationUser {
    /// The wire is where the password must be in the clear: a replica cannot log in without it.
    fn wire(&self) -> Value {
        json!({"name": self.name, "password": self.password.expose_secret()})
    }
}

/// What a source tells those who want to follow it.
#[derive(Debug, Clone)]
pub struct ReplicaContext {
    /// Where it is.
    pub source: Source,
    /// The account to log in with, for datastores that have such accounts.
    pub user: Option<ReplicationUser>,
    /// Where to start, and what else the strategy wants to know at the other end.
    pub log_position: Opaque,
}

impl ReplicaContext {
    /// The dictionary, in the words of a controller of `release`: Kilo and Train have the account in `log_position`, later releases both in
    /// `replica_conf`. A source with nothing to say but where it is says only that.
    pub fn wire(&self, release: Release) -> Map<String, Value> {
        let mut wire = Map::new();
        wire.insert("master".into(), json!(self.source));
        let mut position = self.log_position.0.clone();
        let user = self.user.as_ref().map(ReplicationUser::wire);
        if user.is_none() && position.is_empty() {
            return wire;
        }
        if release >= Release::Zed {
            wire.insert("replica_conf".into(), json!({"log_position": position, "replication_user": user}));
        } else {
            position.insert("replication_user".into(), json!(user));
            wire.insert("log_position".into(), Value::Object(position));
        }
        wire
    }
}

/// `dataset` of a snapshot: what a replica is made from.
#[derive(Debug, Clone, Deserialize)]
pub struct Dataset {
    /// GiB in use on the source.
    #[serde(default)]
    pub dataset_size: Option<f64>,
    /// What a backup that no guest made is at (`log_executed_gtid_set` of a Cinder snapshot).
    #[serde(default)]
    pub log_executed_gtid_set: Option<String>,
}

/// `replica_info` of `attach_replica` and `snapshot` of `prepare`, as every era sends it.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "RawReplicaInfo")]
pub struct ReplicaInfo {
    /// Whom to follow, how, and from where.
    pub context: ReplicaContext,
    /// Present when the instance was made from a snapshot of the source.
    pub dataset: Option<Dataset>,
    /// Class name of the source's strategy.
    pub strategy: Option<String>,
    /// Configuration of a replica (`prepare` only).
    pub config: Option<Overrides>,
    /// How its replicas speak TLS with the source; `None` when they do not.
    pub tls: Option<SourceTls>,
}

#[derive(Deserialize)]
struct RawReplicaInfo {
    master: Source,
    #[serde(default)]
    log_position: Option<RawPosition>,
    #[serde(default)]
    replica_conf: Option<RawConf>,
    #[serde(default)]
    dataset: Option<Dataset>,
    #[serde(default)]
    replication_strategy: Option<String>,
    #[serde(default)]
    config: Option<Overrides>,
    #[serde(default)]
    ssl_mode: Option<Value>,
    #[serde(default)]
    cert_container: Option<SourceTls>,
}

#[derive(Deserialize)]
struct RawPosition {
    #[serde(default)]
    replication_user: Option<ReplicationUser>,
    #[serde(flatten)]
    rest: Opaque,
}

#[derive(Deserialize)]
struct RawConf {
    #[serde(default)]
    log_position: Option<Opaque>,
    #[serde(default)]
    replication_user: Option<ReplicationUser>,
}

impl From<RawReplicaInfo> for ReplicaInfo {
    fn from(raw: RawReplicaInfo) -> Self {
        let (old_user, old_position) = raw.log_position.map_or((None, None), |old| (old.replication_user, Some(old.rest)));
        let told = raw.master.extra.0.get(SourceTls::KEY).and_then(|told| SourceTls::deserialize(told).ok());
        let (user, position) = raw.replica_conf.map_or((None, None), |conf| (conf.replication_user, conf.log_position));
        ReplicaInfo {
            context: ReplicaContext {
                source: raw.master,
                user: user.or(old_user),
                log_position: position.or(old_position).unwrap_or_default(),
            },
            dataset: raw.dataset,
            strategy: raw.replication_strategy,
            config: raw.config,
            tls: told.or(raw.cert_container.filter(|_| raw.ssl_mode.is_some())),
        }
    }
}

/// `get_last_txn`: whom a replica followed, and how far; a list on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastTxn(pub Option<String>, pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> ReplicaContext {
        ReplicaContext {
            source: Source { host: "198.51.100.7".into(), port: 3306, extra: Opaque::default() },
            user: Some(ReplicationUser { name: "slave_0".into(), password: "planted".into() }),
            log_position: Opaque(json!({"gtid_pos": "0-1-5"}).as_object().unwrap().clone()),
        }
    }

    #[test]
    fn each_era_gets_its_words_and_is_understood() {
        let user = json!({"name": "slave_0", "password": "planted"});
        let master = json!({"host": "198.51.100.7", "port": 3306});
        let old = json!({"master": master, "log_position": {"gtid_pos": "0-1-5", "replication_user": user}});
        let new = json!({"master": master, "replica_conf": {"log_position": {"gtid_pos": "0-1-5"}, "replication_user": user}});
        for (release, words) in [(Release::Kilo, &old), (Release::Train, &old), (Release::Zed, &new), (Release::Gazpacho, &new)] {
            assert_eq!(&Value::Object(context().wire(release)), words);
        }
        for mut words in [old, new] {
            words["dataset"] = json!({"datastore_manager": "mysql", "dataset_size": 0.5, "volume_size": 1, "snapshot_id": "s"});
            words["config"] = json!("[mysqld]\nread_only = true\n");
            words["replication_strategy"] = json!("MysqlGTIDReplication");
            let info: ReplicaInfo = serde_json::from_value(words).unwrap();
            assert_eq!(info.context.user.as_ref().unwrap().password.expose_secret(), "planted");
            assert_eq!(info.context.log_position.text("gtid_pos"), Some("0-1-5"));
            assert_eq!((info.dataset.as_ref().unwrap().dataset_size, &info.tls), (Some(0.5), &None));
            assert!(!format!("{info:?}").contains("planted"));
        }
    }

    #[test]
    fn a_source_without_accounts_says_where_it_is() {
        let mut redis = context();
        (redis.user, redis.log_position) = (None, Opaque::default());
        redis.source.extra.0.insert("requirepass".into(), json!("planted"));
        let wire = Value::Object(redis.wire(Release::Gazpacho));
        assert_eq!(wire, json!({"master": {"host": "198.51.100.7", "port": 3306, "requirepass": "planted"}}));
        let info: ReplicaInfo = serde_json::from_value(wire).unwrap();
        assert_eq!(info.context.source.extra.text("requirepass"), Some("planted"));
        assert!(!format!("{info:?}").contains("planted"));
    }

    #[test]
    fn tls_and_the_last_transaction() {
        let read = |info: Value| serde_json::from_value::<ReplicaInfo>(info).unwrap();
        let container = json!({"private_key": "planted", "certificate": "c", "ca": "a"});
        let info = read(json!({"master": {"host": "h", "port": 1}, "ssl_mode": "enforced", "cert_container": container}));
        assert_eq!(info.tls, Some(SourceTls { ca: Some("a".into()), certificate: Some("c".into()) }));
        assert!(!format!("{info:?}").contains("planted"));
        assert_eq!(read(json!({"master": {"host": "h", "port": 1}, "cert_container": container})).tls, None);
        let info = read(json!({"master": {"host": "h", "port": 1, "tls": {"ca": "b"}}}));
        assert_eq!(info.tls.unwrap().ca.as_deref(), Some("b"));
        assert_eq!(serde_json::to_value(LastTxn(Some("u".into()), 7)).unwrap(), json!(["u", 7]));
        assert_eq!(serde_json::to_value(LastTxn(None, 0)).unwrap(), json!([null, 0]));
    }
}

/// A member's part in replication, as its own server says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum MemberRole {
    /// It follows nobody, and nobody is to follow it.
    Alone,
    /// Others may follow it.
    Primary {
        /// How many are connected now.
        replicas: u64,
    },
    /// It follows another one.
    Replica {
        /// Whose address this is.
        source: String,
        /// What keeps it from following, when something does.
        trouble: Option<String>,
    },
    /// It follows nobody, and must not be written to: it is about to be promoted, to follow another one, or was told to be read-only.
    Detached,
    /// A member of a cluster of its datastore's own kind.
    ClusterMember {
        /// What the cluster says of itself.
        state: String,
        /// How many members it knows, itself among them.
        members: u64,
    },
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberRole::Alone => write!(f, "alone"),
            MemberRole::Primary { replicas: 1 } => write!(f, "primary, with 1 replica connected"),
            MemberRole::Primary { replicas } => write!(f, "primary, with {replicas} replicas connected"),
            MemberRole::Replica { source, trouble: None } => write!(f, "replica of {source}"),
            MemberRole::Replica { source, trouble: Some(trouble) } => write!(f, "replica of {source}, NOT FOLLOWING: {trouble}"),
            MemberRole::Detached => write!(f, "detached: follows nobody, and is read-only"),
            MemberRole::ClusterMember { state, members } => write!(f, "member of a cluster of {members}, which is {state}"),
        }
    }
}
