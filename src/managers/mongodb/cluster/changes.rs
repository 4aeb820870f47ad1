//! [`Changes`]: what is changed once, whoever of a replica set is the primary meanwhile.

use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio::time::Instant;

use super::super::configuration::Configuration;
use super::peers::Peers;
use super::replica_set::{NOT_YET_INITIALIZED, is_cut_short, is_failover, is_refusal, is_silence};
use super::set::{LOOK, Set, patiently};
use crate::error::{Result, ResultExt};
use crate::model::MemberRole;
use crate::op::Op;
use crate::system::mongodb::{Client, Session};

/// How long a set may be without a primary: an election takes 12 s by default (manual, "Replica Set Elections"), and is repeated when votes are split.
pub(super) const FAILOVER: Duration = Duration::from_secs(60);
/// How long most members may take to have a change.
const REPLICATION: Duration = Duration::from_secs(30);
/// Most members do not have the change in time (src/mongo/base/error_codes.yml: `WriteConcernFailed`).
const NOT_REPLICATED: u16 = 64;

/// Changes of users and databases: made on the guest's own server, or on the primary of its replica set, and kept by most of its members.
#[derive(Debug, Clone)]
pub(in crate::managers::mongodb) struct Changes {
    pub(in crate::managers::mongodb) client: Client,
    pub(in crate::managers::mongodb) configuration: Arc<Configuration>,
}

/// What a command becomes when it is sent again, since nobody knows what became of it: the primary stepped down, or has gone.
#[derive(Debug, Clone)]
pub(in crate::managers::mongodb) enum Again {
    /// It has the same effect once more.
    Same,
    /// This refusal says that it was done.
    Done(u16),
    /// This refusal says so, too, and the other command makes sure that it was done like this.
    Assure(u16, Document),
}

impl Again {
    fn code(&self) -> Option<u16> {
        match self {
            Again::Same => None,
            Again::Done(code) | Again::Assure(code, _) => Some(*code),
        }
    }
}

impl Changes {
    /// A session with the server that takes changes, for what has to be looked at before one. A set without a primary is waited for.
    ///
    /// # Errors
    /// It does not answer, or there is no primary in time.
    pub(in crate::managers::mongodb) async fn session(&self, op: &Op) -> Result<Session> {
        patiently(op, Instant::now() + op.patience(FAILOVER), is_failover, || self.primary(op)).await
    }

    async fn primary(&self, op: &Op) -> Result<Session> {
        let role = self.configuration.role()?;
        let Some(name) = role.as_ref().and_then(|role| role.set_name()) else { return self.client.session(op).await };
        let set = Set::of_own(op, Peers { configuration: Arc::clone(&self.configuration) }, name);
        match set.state().await {
            Ok(state) if matches!(state.own_role(), Some(MemberRole::Primary { .. })) => self.client.session(op).await,
            Ok(state) => set.primary_of(&state).await,
            Err(error) if error.database_code() == Some(NOT_YET_INITIALIZED) => self.client.session(op).await,
            Err(error) => Err(error),
        }
    }

    /// Runs a command until a primary has done it, and most members have it. One that was interrupted by a change of the primary is sent again, to whoever is the
    /// primary then.
    ///
    /// # Errors
    /// [`Error::Database`](crate::error::Error::Database) with the server's words; where nobody knows whether it was done, the error says so.
    pub(in crate::managers::mongodb) async fn run(
        &self,
        op: &Op,
        action: &str,
        database: &str,
        command: Document,
        again: Again,
    ) -> Result<()> {
        let in_set = self.configuration.role()?.is_some();
        let deadline = Instant::now() + op.patience(FAILOVER);
        let (mut command, mut again, mut in_doubt) = (command, again, false);
        let mut look = tokio::time::interval(LOOK);
        let mut hindrance = None;
        loop {
            op.until_cancelled(action, look.tick()).await?;
            let (sent, outcome) = match self.primary(op).await {
                Ok(session) => (true, session.run(op, action, database, kept_by_most(op, &command)).await),
                Err(error) => (false, Err(error)),
            };
            let Err(error) = outcome else { return Ok(()) };
            if in_doubt && error.database_code().is_some() && error.database_code() == again.code() {
                match std::mem::replace(&mut again, Again::Same) {
                    Again::Assure(_, other) => (command, in_doubt) = (other, false),
                    _ => return Ok(()),
                }
                continue;
            }
            let may_pass = is_failover(&error) || (in_set && (sent || in_doubt) && is_silence(&error));
            in_doubt |= sent && may_pass && !is_refusal(&error);
            if !may_pass || Instant::now() >= deadline {
                let error = hindrance.filter(|_| is_cut_short(&error)).unwrap_or(error);
                let is_uncertain = in_doubt || error.database_code() == Some(NOT_REPLICATED);
                return if is_uncertain { Err(error).action("make sure of a change, which may be there or not") } else { Err(error) };
            }
            tracing::info!(%error, "the primary changes: once more");
            hindrance = Some(error);
        }
    }
}

fn kept_by_most(op: &Op, command: &Document) -> Document {
    let wait = i64::try_from(op.patience(REPLICATION).as_millis().max(1)).unwrap_or(i64::MAX);
    let mut command = command.clone();
    command.insert("writeConcern", doc! {"w": "majority", "wtimeout": wait});
    command
}
