//! [`RedisSyncReplication`]: the server's own replication. A replica needs no backup: it gets all data from its source.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::host::{Host, Role};
use super::state::State;
use crate::error::{Error, Result, ResultExt};
use crate::model::{BackupMetadata, LastTxn, MemberRole, Opaque, Overrides, ReplicaContext, ReplicaInfo, Source, SourceTls};
use crate::op::Op;
use crate::strategies::replication::ReplicationStrategy;
use crate::strategies::replication::source_tls::authorities;
use crate::system::certificates;
use crate::system::redis::Request;
use crate::wait::Wait;

/// How long a replica may get nowhere on its way to its source. Trove waits 120 s for an offset, and not at all for a replica.
const WAIT: Duration = Duration::from_secs(120);
/// A number of replicas that no source has: it accepts no writes then (redis.io, "Replication": "Allow writes only with N attached replicas").
const NEVER: u32 = i32::MAX.cast_unsigned();

/// The strategy of one instance.
#[derive(Debug)]
pub struct RedisSyncReplication {
    host: Arc<dyn Host>,
    name: String,
}

impl RedisSyncReplication {
    /// Class name of the Python strategy (trove/guestagent/strategies/replication/experimental/redis_sync.py).
    pub const NAME: &'static str = "RedisSyncReplication";

    /// The strategy under the class name `name`.
    pub fn new(host: Arc<dyn Host>, name: &str) -> RedisSyncReplication {
        RedisSyncReplication { host, name: name.to_owned() }
    }

    async fn state(&self, op: &Op) -> Result<State> {
        let mut session = self.host.client().session(op).await?;
        State::read(op, &mut session).await
    }

    async fn follow(&self, op: &Op, host: &str, port: &str) -> Result<()> {
        let mut session = self.host.client().session(op).await?;
        let request = Request::new("REPLICAOF").args([host, port]);
        session.command(op, "tell the server whom to follow", &request).await
    }

    async fn wait_until_following(&self, op: &Op, source: &str) -> Result<()> {
        let mut wait = Wait::new(op, "wait until the replica has all data of its source", WAIT);
        let mut progress = String::new();
        loop {
            let missing = match self.state(op).await {
                Ok(state) if state.following && state.source.as_deref() == Some(source) => return Ok(()),
                Ok(state) => {
                    if state.progress != progress {
                        wait.renew();
                        progress = state.progress;
                    }
                    "the source is not reached, or sends nothing".to_owned()
                }
                // It loads what it has got.
                Err(error @ Error::Database { .. }) => error.to_string(),
                Err(error) => return Err(error),
            };
            if let Err(error) = wait.next(op, missing).await {
                let tail = self.host.log_tail(op).await;
                return Err(if op.cancel.is_cancelled() { error } else { Error::guest(format!("{error}{tail}")) });
            }
        }
    }

    async fn stand_alone(&self, op: &Op) -> Result<()> {
        // The file first: a server that is restarted in between follows nobody, and this can be done again.
        self.host.drop_role(op, Role::Replica).await?;
        self.follow(op, "NO", "ONE").await
    }
}

/// The server itself says in its log only that a source is another one than it should be, and tries for ever.
async fn check(op: &Op, source: &Source, tls: &SourceTls) -> Result<()> {
    let authorities = authorities(tls)?;
    if authorities.is_empty() {
        return Err(Error::bad_request(
            "the source names no authority (ca) to verify its certificate with, and replicas of this datastore verify it always: set its TLS with one",
        ));
    }
    certificates::check_server(op, &source.host, source.port, authorities).await.map_err(|error| {
        Error::guest(format!("{error}. The certificate of the source is not of the authority it told, or its server has no TLS there: check its TLS (ssl_show)"))
    })
}

#[async_trait]
impl ReplicationStrategy for RedisSyncReplication {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs_backup(&self) -> bool {
        false
    }

    async fn role(&self, op: &Op) -> Result<Option<MemberRole>> {
        let state = self.state(op).await?;
        Ok(Some(match state.source {
            Some(source) => {
                let trouble = (!state.following).then(|| "its source is not reached, or it is getting the data".to_owned());
                MemberRole::Replica { source, trouble }
            }
            None if self.host.has_role(Role::ReadOnly)? => MemberRole::Detached,
            None if self.host.has_role(Role::Source)? || state.replicas > 0 => MemberRole::Primary { replicas: state.replicas },
            None => MemberRole::Alone,
        }))
    }

    async fn enable_as_source(&self, op: &Op, config: Option<&Overrides>) -> Result<()> {
        self.host.take_role(op, Role::Source, config, &[]).await
    }

    async fn context(&self, _op: &Op) -> Result<ReplicaContext> {
        let password = self.host.password()?;
        let mut extra = Opaque::default();
        extra.0.insert("requirepass".into(), json!(password.as_ref().map(ExposeSecret::expose_secret)));
        if let Some(tls) = self.host.tls()? {
            extra.0.insert(SourceTls::KEY.into(), json!(tls));
        }
        let source = Source { host: self.host.address()?, port: self.host.port()?, extra };
        Ok(ReplicaContext { source, user: None, log_position: Opaque::default() })
    }

    async fn place_of_backup(&self, _op: &Op, _metadata: &BackupMetadata) -> Result<Opaque> {
        Ok(Opaque::default())
    }

    async fn attach(&self, op: &Op, info: &ReplicaInfo, config: Option<&Overrides>) -> Result<()> {
        let source = &info.context.source;
        let (host, port) = (source.host.as_str(), source.port.to_string());
        let mut required = vec![
            ("masterauth", json!(source.extra.text("requirepass").unwrap_or_default())),
            ("replica-read-only", json!(true)),
            ("replicaof", json!([host, port])),
        ];
        if let Some(tls) = &info.tls {
            // Nothing has changed yet.
            check(op, source, tls).await.action(format!("attach to the source {host}:{port}"))?;
            required.extend(self.host.following_over_tls(op, tls).await?);
        }
        self.host.take_role(op, Role::Replica, config, &required).await?;
        let attached = async {
            self.follow(op, host, &port).await?;
            self.wait_until_following(op, host).await
        };
        match attached.await {
            // A replica is read-only as it is, and must not stay so once it is none any more.
            Ok(()) => self.host.drop_role(op, Role::ReadOnly).await,
            Err(error) if op.cancel.is_cancelled() => Err(error),
            Err(error) => {
                self.stand_alone(op).await.action("go back to what the instance was before")?;
                Err(error)
            }
        }
    }

    async fn detach(&self, op: &Op, for_failover: bool) -> Result<Value> {
        if for_failover {
            // Before it is a source: not one write may come in between.
            self.set_read_only(op, true).await?;
            let mut wait = Wait::new(op, "wait until the replica has applied what it has received", WAIT);
            loop {
                let state = self.state(op).await?;
                if state.offset >= state.received {
                    break;
                }
                wait.next(op, format!("it is at {} of {}", state.offset, state.received)).await?;
            }
        }
        self.stand_alone(op).await?;
        // There is no account to be dropped at the source.
        Ok(Value::Null)
    }

    async fn set_read_only(&self, op: &Op, read_only: bool) -> Result<()> {
        if !read_only {
            return self.host.drop_role(op, Role::ReadOnly).await;
        }
        let required = [("min-replicas-to-write", json!(NEVER)), ("min-replicas-max-lag", json!(10))];
        self.host.take_role(op, Role::ReadOnly, None, &required).await
    }

    async fn latest_transaction(&self, op: &Op) -> Result<String> {
        Ok(self.state(op).await?.offset.to_string())
    }

    /// Train's agents compare numbers.
    fn transaction_on_wire(&self, transaction: String) -> Value {
        transaction.parse::<u64>().map_or(Value::String(transaction), Value::from)
    }

    async fn last_transaction(&self, op: &Op) -> Result<LastTxn> {
        let state = self.state(op).await?;
        Ok(LastTxn(state.source, state.offset))
    }

    async fn transaction_count(&self, _op: &Op) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn wait_for_transaction(&self, op: &Op, transaction: &str) -> Result<()> {
        if transaction.trim().is_empty() {
            return Ok(());
        }
        let wanted: u64 = transaction
            .trim()
            .parse()
            .map_err(|_| Error::bad_request(format!("'{}' is no offset of this datastore's replication", transaction.escape_debug())))?;
        let mut wait = Wait::new(op, "wait for the replication offset", WAIT);
        loop {
            let state = self.state(op).await?;
            if state.offset >= wanted {
                return Ok(());
            }
            let link = if state.source.is_none() || state.following { "" } else { ", and its source is not reached" };
            wait.next(op, format!("it is at {} of {wanted}{link}", state.offset)).await?;
        }
    }

    async fn forget_replica(&self, _op: &Op, _info: &Opaque) -> Result<()> {
        Ok(())
    }

    async fn demote(&self, op: &Op) -> Result<()> {
        self.host.drop_role(op, Role::Source).await
    }
}
