//! [`Host`]: what the strategies need of the guest around the server.

use std::fmt;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};

use crate::config::TlsMode;
use crate::error::Result;
use crate::model::Overrides;
use crate::op::Op;
use crate::system::mysql::Client;

/// What a server is to others. It can be both: a replica with replicas of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Others follow it.
    Source,
    /// It follows another one.
    Replica,
}

/// The options of a role.
#[derive(Debug, Clone, Copy)]
pub struct RoleOptions<'a> {
    /// What the controller wants.
    pub wanted: Option<&'a Overrides>,
    /// What replication does not work without, whatever the controller wants.
    pub required: &'a [(&'static str, &'static str)],
}

/// The guest, as replication uses it.
#[async_trait]
pub trait Host: Send + Sync + fmt::Debug {
    /// Sessions with the server.
    fn client(&self) -> &Client;

    /// The data directory.
    fn data_dir(&self) -> &Utf8Path;

    /// Where a strategy remembers what no server does. Its directory is the agent's own.
    fn memory_file(&self) -> Utf8PathBuf;

    /// Address others reach this server at, and `network_isolation` is about.
    ///
    /// # Errors
    /// There is none.
    fn address(&self) -> Result<String>;

    /// What was asked for of the server's TLS.
    fn tls_mode(&self) -> Result<Option<TlsMode>>;

    /// True when the configuration has this role.
    ///
    /// # Errors
    /// The configuration cannot be read.
    fn has_role(&self, role: Role) -> Result<bool>;

    /// Puts the role into the configuration and brings the running server in line with it; restarts it only when there is no other way.
    /// Repeatable. A restart lets everybody write who could before, if the role does not say otherwise.
    ///
    /// # Errors
    /// The server refuses an option, or does not come up: the configuration is as it was before, and so is the server.
    async fn take_role(&self, op: &Op, role: Role, options: RoleOptions<'_>) -> Result<()>;

    /// Takes the role out of the configuration. The running server keeps what it has until its next start.
    ///
    /// # Errors
    /// The configuration cannot be written.
    fn drop_role(&self, role: Role) -> Result<()>;
}
