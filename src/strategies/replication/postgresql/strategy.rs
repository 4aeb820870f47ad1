//! [`PostgreSqlReplication`]: the datastore's [`ReplicationStrategy`].
//!
//! An instance that must not be written to is a standby (`standby.signal`), which the server itself sees to: an old source is made one before another takes its place, and
//! then only has to be told whom to follow. Who is detached to be promoted stays one until it is let go (`make_read_only(false)`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::host::{Host, Role, RoleOptions};
use super::memory::Memory;
use super::place::Place;
use super::{account, attach, detach, slots, tls};
use crate::error::{Error, Result};
use crate::model::{BackupMetadata, LastTxn, MemberRole, Opaque, Overrides, ReplicaContext, ReplicaInfo, Source, SourceTls};
use crate::op::Op;
use crate::strategies::replication::ReplicationStrategy;
use crate::system::postgresql::{Lsn, Session, SqlText};
use crate::wait::Wait;

/// How long to wait for the server itself to do what it was told; the caller's patience may be shorter. Trove waits for ever, or 60 s.
pub(super) const WAIT: Duration = Duration::from_secs(120);
/// The first version whose replicas change their source without a restart, and whose slots are bounded.
const FIRST: u16 = 13;
/// Key of the password of the agent's own account, which a replica has with everything else.
pub(super) const ADMINISTRATOR: &str = "administrator";

/// A server's part: nobody can write to it, how it receives, who follows it, and for whom it keeps its log.
const PART: &str = "SELECT pg_is_in_recovery(), (SELECT status FROM pg_stat_wal_receiver), (SELECT count(*) FROM pg_stat_replication \
    WHERE application_name NOT LIKE 'pg\\_%'), (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical')";

/// Replication of one server.
#[derive(Debug)]
pub struct PostgreSqlReplication {
    pub(super) host: Arc<dyn Host>,
    name: String,
    needs_backup: bool,
}

impl PostgreSqlReplication {
    /// Class name of the Python strategy (trove/guestagent/strategies/replication/postgresql.py).
    pub const NAME: &'static str = "PostgresqlReplicationStreaming";

    /// The strategy under the class name `name`. `needs_backup`: this instance's backups are of its files, so that a replica can be made of one.
    pub fn new(host: Arc<dyn Host>, name: &str, needs_backup: bool) -> PostgreSqlReplication {
        PostgreSqlReplication { host, name: name.to_owned(), needs_backup }
    }

    pub(super) async fn session(&self, op: &Op) -> Result<Session<'_>> {
        self.host.client().session(op).await
    }

    pub(super) fn memory(&self) -> Result<Memory> {
        Memory::load(&self.host.memory_file())
    }

    pub(super) fn remember(&self, memory: &Memory) -> Result<()> {
        memory.save(&self.host.memory_file())
    }

    pub(super) async fn place(&self, op: &Op) -> Result<Place> {
        Place::read(op, &self.session(op).await?).await
    }

    pub(super) async fn require_version(&self, op: &Op) -> Result<()> {
        match self.host.version(op).await? {
            version if version >= FIRST => Ok(()),
            version => Err(Error::guest(format!(
                "replication needs PostgreSQL {FIRST} or later, and this guest's server is {version}: upgrade it"
            ))),
        }
    }

    /// What the password of the agent's account is at a source.
    ///
    /// # Errors
    /// It does not tell.
    pub fn administrator(info: &ReplicaInfo) -> Result<secrecy::SecretString> {
        let told = info.context.log_position.text(ADMINISTRATOR);
        told.map(Into::into)
            .ok_or_else(|| Error::bad_request("the source does not tell its replicas how to log in: it needs this agent, too"))
    }

    /// Stops the server, and starts it as one that nobody can write to. At its end it sends what there is to replicas that are connected.
    async fn fence(&self, op: &Op) -> Result<()> {
        if !self.host.is_standby() {
            tracing::info!("restarting the server as one that nobody can write to");
            self.host.stop(op).await?;
            self.host.make_standby(op).await?;
        }
        self.host.ensure_running(op).await
    }

    /// Lets a server that follows nobody be written to.
    pub(super) async fn promote(&self, op: &Op) -> Result<()> {
        let session = self.session(op).await?;
        let mut wait = Wait::new(op, "promote the replica", WAIT);
        let mut asked = false;
        while Place::read(op, &session).await?.is_standby {
            if !asked {
                session.run(op, "promote the replica", &SqlText::new("SELECT pg_promote(false)")).await?;
                asked = true;
            }
            wait.next(op, "it is applying what it has received".to_owned()).await?;
        }
        // Until then its control file has the old timeline, and pg_rewind takes it for one that has never been promoted.
        session.run(op, "note the new timeline", &SqlText::new("CHECKPOINT")).await
    }

    /// What replication does not work without, and cannot be had by a role.
    async fn check_source(&self, op: &Op) -> Result<()> {
        let sql = SqlText::new("SELECT name, setting FROM pg_settings WHERE (name = 'wal_level' AND setting = 'minimal') OR ")
            .raw("(name IN ('max_wal_senders', 'max_replication_slots') AND setting = '0')");
        let rows = self.session(op).await?.rows(op, "look whether others can follow the server", &sql).await?;
        let wrong: Vec<String> = rows.into_iter().map(|row| row.into_iter().flatten().collect::<Vec<_>>().join(" = ")).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::guest(format!(
            "nobody can follow this server with {}: take that out of its configuration, or its group",
            wrong.join(", ")
        )))
    }
}

#[async_trait]
impl ReplicationStrategy for PostgreSqlReplication {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs_backup(&self) -> bool {
        self.needs_backup
    }

    async fn role(&self, op: &Op) -> Result<Option<MemberRole>> {
        let rows = self.session(op).await?.rows(op, "ask the server for its part in replication", &SqlText::new(PART)).await?;
        let Some([is_standby, receiver, replicas, slots]) = rows.first().map(Vec::as_slice) else { return Ok(None) };
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        let source = self.memory()?.source.filter(|_| self.host.is_following().unwrap_or_default());
        Ok(Some(match source {
            _ if is_standby.as_deref() != Some("t") => match (number(replicas), number(slots)) {
                (0, 0) => MemberRole::Alone,
                (replicas, _) => MemberRole::Primary { replicas },
            },
            Some((host, _)) => {
                let trouble = (receiver.as_deref() != Some("streaming"))
                    .then(|| "it receives nothing from its source; the server's log has why".to_owned());
                MemberRole::Replica { source: host, trouble }
            }
            None => MemberRole::Detached,
        }))
    }

    async fn enable_as_source(&self, op: &Op, config: Option<&Overrides>) -> Result<()> {
        self.require_version(op).await?;
        self.host.ensure_running(op).await?;
        let kept = json!(format!("{}MB", self.host.kept_log()?));
        let mut otherwise = vec![("wal_level", json!("replica")), ("hot_standby", json!(true))];
        // What it takes to be rewound, should another one have taken its place: everything since its last checkpoint before that.
        otherwise.push(("wal_keep_size", kept));
        let sql = SqlText::new("SELECT current_setting('data_checksums')");
        if self.session(op).await?.texts(op, "look whether pages have checksums", &sql).await? != ["on"] {
            // Nobody could rewind it otherwise.
            otherwise.push(("wal_log_hints", json!(true)));
        }
        let options = RoleOptions { wanted: config, required: &[], otherwise: &otherwise, at_least: &[] };
        self.host.take_role(op, Role::Source, options).await?;
        self.host.let_replicas_in(op).await?;
        self.host.settle(op, Role::Source).await?;
        self.check_source(op).await
    }

    async fn context(&self, op: &Op) -> Result<ReplicaContext> {
        let session = self.session(op).await?;
        let is_standby = Place::read(op, &session).await?.is_standby;
        let user = account::ensure(op, &*self.host, &session, is_standby).await?;
        self.host.keep_role(Role::Source)?;
        slots::drop_idle(op, &session, false).await?;
        let mut position = Opaque::default();
        position.0.insert(ADMINISTRATOR.into(), json!(self.host.administrator()?.expose_secret()));
        let extra = tls::offer(self, op).await?.map(|tls| (SourceTls::KEY.to_owned(), json!(tls))).into_iter().collect();
        let source = Source { host: self.host.address()?, port: self.host.port()?, extra: Opaque(extra) };
        Ok(ReplicaContext { source, user: Some(user), log_position: position })
    }

    /// A base backup knows by itself.
    async fn place_of_backup(&self, _op: &Op, _metadata: &BackupMetadata) -> Result<Opaque> {
        Ok(Opaque::default())
    }

    async fn attach(&self, op: &Op, info: &ReplicaInfo, config: Option<&Overrides>) -> Result<()> {
        attach::run(self, op, info, config).await
    }

    async fn detach(&self, op: &Op, for_failover: bool) -> Result<Value> {
        detach::run(self, op, for_failover).await
    }

    async fn set_read_only(&self, op: &Op, read_only: bool) -> Result<()> {
        if read_only {
            return self.fence(op).await;
        }
        self.host.ensure_running(op).await?;
        if self.host.is_standby() && self.host.is_following()? {
            return Err(Error::bad_request("this instance follows another one, and nobody writes to it: detach it first"));
        }
        self.promote(op).await?;
        self.remember(&Memory { source: None, ..self.memory()? })?;
        self.host.drop_role(op, Role::Replica).await
    }

    async fn latest_transaction(&self, op: &Op) -> Result<String> {
        Ok(self.place(op).await?.at.to_string())
    }

    async fn last_transaction(&self, op: &Op) -> Result<LastTxn> {
        let place = self.place(op).await?;
        if !place.is_standby || !self.host.is_following()? {
            return Ok(LastTxn(None, 0));
        }
        let source = self.memory()?.source.map(|(host, _)| host);
        // What was received is applied before a promotion, whatever happens.
        Ok(LastTxn(source, place.received.0))
    }

    /// How many of them changed something: the same number on a source and on its replicas.
    async fn transaction_count(&self, op: &Op) -> Result<Option<u64>> {
        // FirstNormalTransactionId is 3.
        let sql = SqlText::new("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 3");
        let count = self.session(op).await?.texts(op, "count the server's transactions", &sql).await?;
        Ok(count.first().and_then(|count| count.parse().ok()))
    }

    async fn wait_for_transaction(&self, op: &Op, transaction: &str) -> Result<()> {
        if transaction.trim().is_empty() {
            return Ok(());
        }
        let wanted: Lsn = transaction.trim().parse()?;
        let mut wait = Wait::new(op, "wait for the replica to apply what its source has done", WAIT);
        let session = self.session(op).await?;
        loop {
            let place = Place::read(op, &session).await?;
            if place.at >= wanted {
                return Ok(());
            }
            let missing = format!("it is at {} of {wanted}, {} bytes behind", place.at, wanted.0 - place.at.0);
            if !place.is_standby || !self.host.is_following()? {
                return Err(Error::guest(format!("this instance follows nobody and will never have {wanted}: {missing}")));
            }
            let sql =
                SqlText::new("SELECT CASE WHEN pg_is_wal_replay_paused() THEN 'paused' ELSE (SELECT status FROM pg_stat_wal_receiver) END");
            let link = session.texts(op, "ask the replica how it follows", &sql).await?;
            let link = match link.first().map(String::as_str) {
                Some("paused") => "; applying is paused: see the server's log, then pg_wal_replay_resume()",
                Some("streaming") => "",
                _ => "; the source is not reached, or does not have what comes next any more",
            };
            wait.next(op, format!("{missing}{link}")).await?;
        }
    }

    async fn forget_replica(&self, op: &Op, info: &Opaque) -> Result<()> {
        let Some(slot) = info.text("slot") else { return Ok(()) };
        if !slots::is_made_up(slot) {
            return Err(Error::bad_request(format!("'{}' is no slot that was made for a replica", slot.escape_debug())));
        }
        slots::drop_one(op, &self.session(op).await?, slot).await
    }

    async fn demote(&self, op: &Op) -> Result<()> {
        self.host.drop_role(op, Role::Source).await?;
        slots::drop_idle(op, &self.session(op).await?, true).await
    }
}
