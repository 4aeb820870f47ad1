//! [`Host`]: what the strategy needs of the guest around the server.

use std::fmt;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use secrecy::SecretString;
use serde_json::Value;

use super::conninfo::Conninfo;
use crate::config::TlsMode;
use crate::error::Result;
use crate::model::Overrides;
use crate::op::Op;
use crate::system::postgresql::Client;

/// What of the configuration goes with a part an instance plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Others follow it.
    Source,
    /// It follows another one.
    Replica,
}

/// The parameters of a role.
#[derive(Debug, Clone, Copy)]
pub struct RoleOptions<'a> {
    /// What the controller wants.
    pub wanted: Option<&'a Overrides>,
    /// What replication does not work without, whatever the controller wants.
    pub required: &'a [(&'a str, Value)],
    /// What holds unless the controller, or the base configuration, or a group says otherwise.
    pub otherwise: &'a [(&'a str, Value)],
    /// Numbers that must not be lower than these.
    pub at_least: &'a [(String, u64)],
}

/// The guest, as replication uses it.
#[async_trait]
pub trait Host: Send + Sync + fmt::Debug {
    /// Sessions with the server.
    fn client(&self) -> &Client;

    /// Address others reach this server at.
    ///
    /// # Errors
    /// There is none.
    fn address(&self) -> Result<String>;

    /// The server's port.
    ///
    /// # Errors
    /// The configuration cannot be read.
    fn port(&self) -> Result<u16>;

    /// The data directory.
    fn data_dir(&self) -> &Utf8Path;

    /// Where the strategy remembers what no server does. Its directory is the agent's own.
    fn memory_file(&self) -> Utf8PathBuf;

    /// The instance's id.
    fn guest_id(&self) -> &str;

    /// What was asked for of the server's TLS.
    ///
    /// # Errors
    /// What was done about TLS cannot be read.
    fn tls_mode(&self) -> Result<Option<TlsMode>>;

    /// Where the authority of a source is kept, which the server reads whenever it connects.
    fn authority_file(&self) -> Utf8PathBuf;

    /// How much of the log a source keeps in any case, in MiB: what the volume can spare.
    ///
    /// # Errors
    /// The volume cannot be looked at.
    fn kept_log(&self) -> Result<u64>;

    /// Major version of the server's programs.
    ///
    /// # Errors
    /// There are none.
    async fn version(&self, op: &Op) -> Result<u16>;

    /// Starts the server unless it runs, and waits until it answers.
    ///
    /// # Errors
    /// It does not come up.
    async fn ensure_running(&self, op: &Op) -> Result<()>;

    /// Stops the server in good order.
    ///
    /// # Errors
    /// It does not end.
    async fn stop(&self, op: &Op) -> Result<()>;

    /// Password of the agent's own account.
    ///
    /// # Errors
    /// There is none yet.
    fn administrator(&self) -> Result<SecretString>;

    /// The server knows the agent's account by this password from now on: its data are another server's.
    ///
    /// # Errors
    /// It cannot be written down.
    fn set_administrator(&self, password: &SecretString) -> Result<()>;

    /// Puts a role into the configuration. The running server has nothing of it before [`Self::settle`].
    ///
    /// # Errors
    /// The server refuses something; the configuration is as it was.
    async fn take_role(&self, op: &Op, role: Role, options: RoleOptions<'_>) -> Result<()>;

    /// Has the running server take what [`Self::take_role`] has written; restarts it when there is no other way.
    ///
    /// # Errors
    /// It does not come up.
    async fn settle(&self, op: &Op, role: Role) -> Result<()>;

    /// Takes a role out of the configuration; the running server reads that.
    ///
    /// # Errors
    /// The configuration cannot be written.
    async fn drop_role(&self, op: &Op, role: Role) -> Result<()>;

    /// Takes whom it follows out of the replica's role; the running server reads that. The rest of the role stays.
    ///
    /// # Errors
    /// The configuration cannot be written.
    async fn follow_nobody(&self, op: &Op) -> Result<()>;

    /// True when the replica's role says whom to follow.
    ///
    /// # Errors
    /// The configuration cannot be read.
    fn is_following(&self) -> Result<bool>;

    /// True when the server is, or will be at its next start, one that only others can write to.
    fn is_standby(&self) -> bool;

    /// Makes it so. The server takes it at its next start.
    ///
    /// # Errors
    /// The file system refused.
    async fn make_standby(&self, op: &Op) -> Result<()>;

    /// Lets the accounts of replicas in: rules that an earlier agent has written did not.
    ///
    /// # Errors
    /// The rules cannot be written.
    async fn let_replicas_in(&self, op: &Op) -> Result<()>;

    /// Keeps a password where the server's account alone can read it; returns the password file.
    ///
    /// # Errors
    /// It cannot be written.
    async fn keep_password(&self, op: &Op, user: &str, password: &SecretString) -> Result<Utf8PathBuf>;

    /// Keeps on the volume what a role takes, for the agent of the next root disk.
    ///
    /// # Errors
    /// It cannot be written.
    fn keep_role(&self, role: Role) -> Result<()>;

    /// Brings the data of the stopped server back to where they leave those of a source, which they are an older branch of. False when that cannot be done: then nothing
    /// has changed.
    ///
    /// # Errors
    /// It broke off, and the data are of no use ([`Self::is_half_done`]).
    async fn rewind(&self, op: &Op, source: &Conninfo) -> Result<bool>;

    /// True when a rewind broke off.
    fn is_half_done(&self) -> bool;

    /// Replaces the data of the stopped server by a copy of a source's, as soon as that is complete.
    ///
    /// # Errors
    /// It cannot be made; the data are as they were.
    async fn copy(&self, op: &Op, source: &Conninfo, slot: &str) -> Result<()>;

    /// The end of the server's log, for an error.
    async fn log_tail(&self, op: &Op) -> String;
}
