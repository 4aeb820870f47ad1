//! How the database is ([`StatusProbe`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::client::Client;
use super::quote::SqlText;
use crate::error::{Error, Result};
use crate::managers::StatusProbe;
use crate::model::ServiceStatus;
use crate::op::Op;
use crate::system::service::{ServiceControl, UnitState};

/// Until the server must have answered.
const DEADLINE: Duration = Duration::from_secs(3);

/// Asks one server.
#[derive(Debug)]
pub(super) struct Probe {
    client: Arc<Client>,
    service: Arc<dyn ServiceControl>,
    warned: AtomicBool,
}

/// What came of asking.
#[derive(Debug)]
pub(super) enum Answer {
    /// It answered the question.
    Good,
    /// It is alive, and refused: no account yet, wrong password, too many connections.
    Refused(Error),
    /// It said nothing.
    None(Error),
}

impl Probe {
    pub(super) fn new(client: Arc<Client>, service: Arc<dyn ServiceControl>) -> Probe {
        Probe { client, service, warned: AtomicBool::new(false) }
    }

    async fn select(&self, op: &Op) -> Result<()> {
        let mut session = match self.client.session(op).await {
            // Before there are credentials, a refusal tells a living server from a dead one.
            Err(Error::Guest { .. }) => {
                let nobody = super::Login { user: super::OS_ADMIN.to_owned(), password: None };
                self.client.session_as(op, &nobody).await?
            }
            other => other?,
        };
        session.run(op, "ask the database how it is", &SqlText::new("SELECT 1")).await?;
        session.close().await;
        Ok(())
    }

    /// Asks, within the deadline.
    pub(super) async fn ask(&self, op: &Op) -> Answer {
        match tokio::time::timeout(DEADLINE, self.select(op)).await {
            Ok(Ok(())) => Answer::Good,
            Ok(Err(error @ Error::Database { .. })) => Answer::Refused(error),
            Ok(Err(error)) => Answer::None(error),
            Err(_) => Answer::None(Error::Timeout { action: "ask the database how it is".into(), after: DEADLINE, detail: String::new() }),
        }
    }
}

#[async_trait]
impl StatusProbe for Probe {
    async fn probe(&self, op: &Op) -> ServiceStatus {
        match self.ask(op).await {
            Answer::Good => {
                self.warned.store(false, Ordering::Relaxed);
                ServiceStatus::Running
            }
            Answer::Refused(error) => {
                // Once per trouble, not at every heartbeat.
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the database is running but does not let the agent in");
                }
                ServiceStatus::Running
            }
            Answer::None(error) => {
                tracing::debug!(%error, "the database does not answer");
                match self.service.state(op).await {
                    Ok(UnitState::Running { .. }) => ServiceStatus::Blocked,
                    Ok(UnitState::Failed) => ServiceStatus::Crashed,
                    Ok(UnitState::Stopped | UnitState::Missing) => ServiceStatus::Shutdown,
                    Err(error) => {
                        tracing::debug!(%error, "the service manager does not answer");
                        ServiceStatus::Unknown
                    }
                }
            }
        }
    }
}
