//! Keeps the log that a base backup needs until it is fetched, at its end: a slow backup of a busy server would find it recycled otherwise.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::postgresql::{Client, SqlText};

/// A temporary replication slot. It goes with the session that made it, and the session with this value.
#[derive(Debug)]
pub(super) struct WalHold {
    _held: oneshot::Sender<()>,
}

/// A name slots may have.
fn name(id: &str) -> String {
    let word = id.chars().filter(char::is_ascii_alphanumeric).take(40).collect::<String>();
    format!("trove_backup_{}", word.to_ascii_lowercase())
}

impl WalHold {
    /// Holds the log from now on.
    ///
    /// # Errors
    /// The server has no slot left, or refused.
    pub(super) async fn begin(op: &Op, client: &Arc<Client>, id: &str) -> Result<WalHold> {
        let (ready, made) = oneshot::channel();
        let (held, released) = oneshot::channel::<()>();
        let (op, client, name) = (op.clone(), Arc::clone(client), name(id));
        crate::op::spawn(async move {
            let slot = async {
                let session = client.session(&op).await?;
                // The parameter came with PostgreSQL 14: whoever sets it must not end this session.
                let idle = SqlText::new("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'");
                session.run(&op, "keep a session open", &idle).await?;
                let sql = SqlText::new("SELECT pg_create_physical_replication_slot(").literal(&name).raw(", true, true)");
                session.run(&op, "reserve the log for a backup", &sql).await?;
                Ok(session)
            };
            let slot: Result<_> = slot.await;
            match slot {
                Ok(session) => {
                    ready.send(Ok(())).ok();
                    released.await.ok();
                    drop(session);
                }
                Err(error) => {
                    ready.send(Err(error)).ok();
                }
            }
        });
        made.await.map_err(|_| Error::guest("reserving the log for a backup broke off"))??;
        Ok(WalHold { _held: held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_makes_a_name_of_a_slot() {
        assert_eq!(name("4f0C9f0e-8b7a"), "trove_backup_4f0c9f0e8b7a");
        assert!(name(&"x".repeat(64)).len() <= 63);
    }
}
