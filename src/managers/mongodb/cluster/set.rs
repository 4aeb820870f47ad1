//! [`Set`]: a replica set made of its servers, one after the other.

use std::time::Duration;

use mongodb::bson::doc;
use secrecy::SecretString;
use tokio::time::Instant;

use super::super::admin::{self, ADMIN};
use super::clock::Clock;
use super::peers::Peers;
use super::replica_set::{
    ALREADY_INITIALIZED, NO_PRIMARY, NOT_YET_INITIALIZED, State, first_configuration, is_cut_short, may_pass, with_member,
};
use super::role::CONFIG_SET;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::mongodb::Session;

/// How long a set may take: less than its caller waits (trove/common/cfg.py: `add_members_timeout`, 300 s), so that the answer says what is missing.
const PATIENCE: Duration = Duration::from_secs(280);
/// Between two looks at it.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// The servers of one set, and how to reach its primary.
pub(super) struct Set<'a> {
    pub(super) op: &'a Op,
    pub(super) peers: Peers,
    /// The member that is asked first; this guest's own without any.
    pub(super) first: Option<String>,
    pub(super) name: &'a str,
    pub(super) is_config: bool,
}

/// A change of a set.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    /// Makes it of this member.
    Initiate(&'a str),
    /// Adds this one.
    Add(&'a str),
    /// Makes the agent's user, or gives it this password.
    Administer(&'a SecretString),
}

/// Tries again, as long as what hinders it may pass.
///
/// # Errors
/// Another one, or the last one when the time is over; one that only says so gives way to the reason before it.
pub(super) async fn patiently<T, F: Future<Output = Result<T>>>(
    op: &Op,
    deadline: Instant,
    passes: fn(&Error) -> bool,
    attempt: impl Fn() -> F,
) -> Result<T> {
    let mut look = tokio::time::interval(LOOK);
    let mut hindrance = None;
    loop {
        op.until_cancelled("wait for the replica set", look.tick()).await?;
        match attempt().await {
            Err(error) if passes(&error) && Instant::now() < deadline => {
                tracing::debug!(%error, "the replica set is not ready");
                hindrance = Some(error);
            }
            Err(error) if is_cut_short(&error) => return Err(hindrance.unwrap_or(error)),
            other => return other,
        }
    }
}

impl<'a> Set<'a> {
    /// The set that this guest's own server is a member of.
    pub(super) fn of_own(op: &'a Op, peers: Peers, name: &'a str) -> Set<'a> {
        Set { op, peers, first: None, name, is_config: name == CONFIG_SET }
    }
}

impl Set<'_> {
    async fn member(&self) -> Result<Session> {
        match &self.first {
            Some(host) => self.peers.session(self.op, host).await.action(format!("reach {host}")),
            None => self.peers.own(self.op).await,
        }
    }

    /// How it is.
    ///
    /// # Errors
    /// The member does not answer, or is in no set yet.
    pub(super) async fn state(&self) -> Result<State> {
        let status = self.member().await?.run(self.op, "look at the replica set", ADMIN, doc! { "replSetGetStatus": 1 }).await?;
        State::parse(&status)
    }

    /// A session with whoever is the primary now.
    ///
    /// # Errors
    /// There is none, or it does not answer.
    async fn primary(&self) -> Result<Session> {
        self.primary_of(&self.state().await?).await
    }

    /// A session with the one that was the primary.
    ///
    /// # Errors
    /// Likewise.
    pub(super) async fn primary_of(&self, state: &State) -> Result<Session> {
        let Some(primary) = state.primary() else {
            let action = format!("find the primary of the replica set {}", self.name);
            return Err(Error::Database { action, code: Some(NO_PRIMARY), message: "there is none at the moment".into() });
        };
        self.peers.session(self.op, primary).await.action(format!("reach the primary {primary}"))
    }

    /// Makes the set, if it is none yet, of one member.
    async fn initiate(&self, host: &str) -> Result<()> {
        match self.state().await {
            Err(error) if error.database_code() == Some(NOT_YET_INITIALIZED) => {}
            other => return other.map(drop),
        }
        tracing::info!(set = self.name, member = host, "making a replica set");
        let command = doc! { "replSetInitiate": first_configuration(self.name, host, self.is_config) };
        match self.member().await?.run(self.op, "initiate the replica set", ADMIN, command).await {
            Err(error) if error.database_code() != Some(ALREADY_INITIALIZED) => Err(error),
            _ => Ok(()),
        }
    }

    async fn add(&self, host: &str) -> Result<()> {
        let primary = self.primary().await?;
        let answer = primary.run(self.op, "read the replica set's configuration", ADMIN, doc! { "replSetGetConfig": 1 }).await?;
        let configuration =
            answer.get_document("config").map_err(|_| Error::guest("the server does not tell its replica set's configuration"))?;
        let Some(wanted) = with_member(configuration, host)? else { return Ok(()) };
        // One that is away, or that another key opens, would keep the primary waiting, and the set would have it all the same.
        let candidate = self.peers.session(self.op, host).await.action(format!("reach {host}"))?;
        let clock = Clock::read(self.op, &candidate).await.action(format!("reach {host}"))?;
        Clock::read(self.op, &primary).await?.admit(clock, host, Clock::limit(self.op, &primary).await)?;
        tracing::info!(member = host, set = self.name, "adding a member to the replica set");
        primary.run(self.op, "change the replica set's configuration", ADMIN, doc! { "replSetReconfig": wanted }).await.map(drop)
    }

    /// Makes the set of these members: one after the other, since servers take one at a time (manual, "replSetReconfig": since 4.4). A primary that steps down is
    /// waited for, or its successor asked. What is done already is found done.
    ///
    /// # Errors
    /// A server refuses, or is not a member in time; what is missing is in the error.
    pub(super) async fn assemble(&self, hosts: &[String]) -> Result<()> {
        let Some(first) = hosts.first() else { return Err(Error::bad_request("a replica set has one member at least")) };
        let deadline = Instant::now() + self.op.patience(PATIENCE);
        self.patiently(deadline, Step::Initiate(first)).await?;
        self.until(deadline, &hosts[..1]).await?;
        for (index, host) in hosts.iter().enumerate().skip(1) {
            self.patiently(deadline, Step::Add(host)).await?;
            self.until(deadline, &hosts[..=index]).await?;
        }
        Ok(())
    }

    /// Makes the agent's user, or gives it this password. A server calls itself the primary before it takes changes.
    ///
    /// # Errors
    /// The primary refuses, or there is none in time.
    pub(super) async fn administer(&self, password: &SecretString) -> Result<()> {
        self.patiently(Instant::now() + self.op.patience(PATIENCE), Step::Administer(password)).await
    }

    async fn take(&self, step: Step<'_>) -> Result<()> {
        match step {
            Step::Initiate(host) => self.initiate(host).await.action(format!("make the replica set {}", self.name)),
            Step::Add(host) => self.add(host).await.action(format!("add {host} to the replica set {}", self.name)),
            Step::Administer(password) => admin::set(self.op, &self.primary().await?, password).await,
        }
    }

    async fn patiently(&self, deadline: Instant, step: Step<'_>) -> Result<()> {
        patiently(self.op, deadline, may_pass, || self.take(step)).await
    }

    /// Waits until these members serve, with one primary among them.
    async fn until(&self, deadline: Instant, hosts: &[String]) -> Result<()> {
        let mut look = tokio::time::interval(LOOK);
        let begin = Instant::now();
        loop {
            self.op.until_cancelled("wait for the replica set", look.tick()).await?;
            let detail = match self.state().await {
                Ok(state) => match state.missing(hosts) {
                    None => return Ok(()),
                    Some(missing) => missing,
                },
                Err(error) if may_pass(&error) => error.to_string(),
                Err(error) => return Err(error),
            };
            if Instant::now() >= deadline {
                let action = format!("wait for the members of the replica set {}", self.name);
                return Err(Error::Timeout { action, after: begin.elapsed(), detail });
            }
        }
    }
}
