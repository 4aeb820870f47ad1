//! [`MySqlReplication`]: the family's [`ReplicationStrategy`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::coordinates::Coordinates;
use super::gtid_position::GtidPosition;
use super::host::{Host, Role, RoleOptions};
use super::memory::Memory;
use super::server::Server;
use super::status::Following;
use super::{attach, context, detach, progress, user};
use crate::error::{Error, Result};
use crate::model::{BackupMetadata, LastTxn, MemberRole, Opaque, Overrides, ReplicaContext, ReplicaInfo};
use crate::op::Op;
use crate::strategies::replication::ReplicationStrategy;

/// How a replica knows where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positioning {
    /// By transaction ids: MySQL's sets, or MariaDB's positions.
    Gtid,
    /// By the place in the source's binary log.
    Binlog,
}

/// How long to wait for the server itself to do what it was told; the caller's patience may be shorter.
pub(super) const WAIT: Duration = Duration::from_secs(180);

/// Replication of one server.
#[derive(Debug)]
pub struct MySqlReplication {
    pub(super) host: Arc<dyn Host>,
    name: String,
    pub(super) positioning: Positioning,
}

impl MySqlReplication {
    /// The strategy with the class name `name`: `MysqlGTIDReplication`, `MariaDBGTIDReplication` or `MysqlBinlogReplication`.
    pub fn new(host: Arc<dyn Host>, name: &str) -> MySqlReplication {
        let positioning = if name.to_ascii_lowercase().contains("binlog") { Positioning::Binlog } else { Positioning::Gtid };
        MySqlReplication { host, name: name.to_owned(), positioning }
    }

    pub(super) async fn server(&self, op: &Op) -> Result<Server<'_>> {
        Server::open(op, self.host.client()).await
    }

    /// A server whose data are a copy of another's follows nobody: whom it followed was that one's business. It must not have begun to.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn follow_nobody(&self, op: &Op) -> Result<()> {
        let mut server = self.server(op).await?;
        if server.following(op).await?.is_some() {
            let sql = server.dialect.forget_source();
            server.run(op, "forget whom the copied server followed", &sql).await?;
        }
        server.close().await;
        Ok(())
    }

    pub(super) fn memory(&self) -> Result<Memory> {
        Memory::load(&self.host.memory_file())
    }

    pub(super) fn remember(&self, memory: &Memory) -> Result<()> {
        memory.save(&self.host.memory_file())
    }

    /// Puts a role into the configuration and the running server.
    pub(super) async fn take_role(&self, op: &Op, role: Role, wanted: Option<&Overrides>) -> Result<()> {
        let server = self.server(op).await?;
        let dialect = server.dialect;
        server.close().await;
        let required = dialect.required(self.positioning, role);
        self.host.take_role(op, role, RoleOptions { wanted, required: &required }).await
    }

    /// How far it has come, received things included while they can still be applied.
    async fn reach(&self, op: &Op, server: &mut Server<'_>, following: &Following) -> Result<u64> {
        let healthy = following.apply_error.is_none();
        let source = following.source.as_deref().unwrap_or_default();
        match self.positioning {
            Positioning::Gtid if server.dialect.0.is_mariadb() => {
                let applied = server.position(op, "gtid_slave_pos").await?.last();
                let received = GtidPosition::parse(&following.received_position)?.last();
                Ok(if healthy { applied.max(received) } else { applied })
            }
            Positioning::Gtid => {
                let applied = server.executed(op).await?;
                let received = super::gtid_set::GtidSet::parse(&following.received_set)?;
                Ok(if healthy { applied.union(&received) } else { applied }.last(source))
            }
            Positioning::Binlog => {
                let place = if healthy { &following.received } else { &following.applied };
                Ok(place.as_ref().map_or(0, Coordinates::ordinal))
            }
        }
    }
}

#[async_trait]
impl ReplicationStrategy for MySqlReplication {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs_backup(&self) -> bool {
        true
    }

    async fn role(&self, op: &Op) -> Result<Option<MemberRole>> {
        let mut server = self.server(op).await?;
        let following = server.following(op).await?;
        let role = match following {
            Some(following) => MemberRole::Replica { source: following.host.clone(), trouble: following.trouble() },
            None if server.is_on(op, "read_only").await? => MemberRole::Detached,
            None if self.host.has_role(Role::Source)? => MemberRole::Primary { replicas: server.connected_replicas(op).await? },
            None => MemberRole::Alone,
        };
        server.close().await;
        Ok(Some(role))
    }

    async fn enable_as_source(&self, op: &Op, config: Option<&Overrides>) -> Result<()> {
        if !self.host.has_role(Role::Source)? {
            let memory = Memory { new_source: true, ..self.memory()? };
            self.remember(&memory)?;
        }
        self.take_role(op, Role::Source, config).await
    }

    async fn context(&self, op: &Op) -> Result<ReplicaContext> {
        context::of(self, op).await
    }

    async fn place_of_backup(&self, op: &Op, metadata: &BackupMetadata) -> Result<Opaque> {
        context::of_backup(self, op, metadata).await
    }

    async fn attach(&self, op: &Op, info: &ReplicaInfo, config: Option<&Overrides>) -> Result<()> {
        attach::run(self, op, info, config).await
    }

    async fn detach(&self, op: &Op, for_failover: bool) -> Result<Value> {
        detach::run(self, op, for_failover).await
    }

    async fn set_read_only(&self, op: &Op, read_only: bool) -> Result<()> {
        let mut server = self.server(op).await?;
        let sql = server.dialect.set_read_only(read_only);
        server.run(op, if read_only { "make the database read-only" } else { "let everybody write again" }, &sql).await?;
        server.close().await;
        Ok(())
    }

    async fn latest_transaction(&self, op: &Op) -> Result<String> {
        let mut server = self.server(op).await?;
        let latest = match self.positioning {
            Positioning::Gtid if server.dialect.0.is_mariadb() => server.position(op, "gtid_binlog_pos").await?.to_string(),
            Positioning::Gtid => server.executed(op).await?.to_string(),
            Positioning::Binlog => server.log_end(op).await?.to_string(),
        };
        server.close().await;
        Ok(latest)
    }

    async fn last_transaction(&self, op: &Op) -> Result<LastTxn> {
        let mut server = self.server(op).await?;
        let last = match server.following(op).await? {
            Some(following) => LastTxn(following.source.clone(), self.reach(op, &mut server, &following).await?),
            None => LastTxn(None, 0),
        };
        server.close().await;
        Ok(last)
    }

    async fn transaction_count(&self, op: &Op) -> Result<Option<u64>> {
        let mut server = self.server(op).await?;
        let count = match self.positioning {
            Positioning::Binlog => None,
            // The numbers of a domain ascend without gaps.
            Positioning::Gtid if server.dialect.0.is_mariadb() => Some(server.position(op, "gtid_binlog_pos").await?.last()),
            Positioning::Gtid => Some(server.executed(op).await?.count()),
        };
        server.close().await;
        Ok(count)
    }

    async fn wait_for_transaction(&self, op: &Op, transaction: &str) -> Result<()> {
        progress::wait_for(self, op, transaction).await
    }

    async fn forget_replica(&self, op: &Op, info: &Opaque) -> Result<()> {
        let Some(name) = info.text("replication_user") else { return Ok(()) };
        if self.memory()?.user.is_some_and(|user| user.name == name) {
            tracing::info!(user = name, "other replicas log in with this account: it stays");
            return Ok(());
        }
        if !user::is_made_up(name) {
            return Err(Error::bad_request(format!("'{}' is no account that was made for a replica", name.escape_debug())));
        }
        let mut server = self.server(op).await?;
        user::drop_one(op, &mut server, name).await?;
        server.close().await;
        Ok(())
    }

    async fn demote(&self, _op: &Op) -> Result<()> {
        self.host.drop_role(Role::Source)?;
        // The account went to the new source with everything else; that one drops it.
        self.remember(&Memory { user: None, new_source: false, ..self.memory()? })
    }
}
