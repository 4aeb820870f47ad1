//! [`Roles`]: the instance's part among others, asked of its server when somebody wants to know.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::managers::DatastoreManager;
use crate::model::MemberRole;
use crate::op::Op;

/// How long the server may take: whoever asks wants to see the rest.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer is good for: somebody who watches asks every second.
const FRESH: Duration = Duration::from_secs(5);

/// Asks, and remembers for a while.
#[derive(Debug)]
pub(super) struct Roles {
    manager: Arc<dyn DatastoreManager>,
    known: Mutex<Option<(Instant, Option<MemberRole>)>>,
}

impl Roles {
    pub(super) fn new(manager: Arc<dyn DatastoreManager>) -> Self {
        Roles { manager, known: Mutex::default() }
    }

    /// The part, if the server tells it in time.
    pub(super) async fn now(&self) -> Option<MemberRole> {
        // One question at a time; others wait for its answer.
        let mut known = self.known.lock().await;
        if let Some((at, role)) = &*known
            && at.elapsed() < FRESH
        {
            return role.clone();
        }
        let op = Op::internal(CancellationToken::new());
        let role = match tokio::time::timeout(PATIENCE, self.manager.role(&op)).await {
            Ok(Ok(role)) => role,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the server does not tell its part in replication");
                None
            }
            Err(_) => None,
        };
        *known = Some((Instant::now(), role.clone()));
        role
    }
}
