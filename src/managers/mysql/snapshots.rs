//! [`Snapshots`]: the family's [`VolumeSnapshots`], by `FLUSH TABLES WITH READ LOCK` and a frozen file system.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8PathBuf;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Session};
use super::quote::SqlText;
use crate::error::{Error, Result, ResultExt};
use crate::managers::{Owner, VolumeSnapshots};
use crate::op::Op;
use crate::strategies::replication::mysql::SnapshotPlace;
use crate::volume::Freezer;

/// No controller holds a database longer: its task ended without `post_create_backup` (it does not call it after an error of the guest), and its
/// clients have waited long enough. As long as it waits for an answer of the guest (`agent_call_high_timeout`).
const LONGEST_HOLD: Duration = Duration::from_secs(600);
/// How long the server may take to show that it still has the session with the lock.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// The session with the lock says nothing all the time; a group may end silent ones after seconds.
const STAY: &str = "SET SESSION wait_timeout = 28800";
const WORTHLESS: &str = "the snapshot may be of a database that was being written to: delete it and make another one";

/// Snapshots of one server's volume.
#[derive(Debug)]
pub(super) struct Snapshots {
    client: Arc<Client>,
    freezer: Arc<Freezer>,
    data_dir: Utf8PathBuf,
    owner: Owner,
    hold: Mutex<Option<Hold>>,
}

/// Database and volume while they are held still.
#[derive(Debug)]
struct Hold {
    release: oneshot::Sender<()>,
    /// Everybody may write again. An error says that they may have before the release, too.
    ended: JoinHandle<Result<()>>,
}

impl Hold {
    async fn end(self) -> Result<()> {
        // It may have ended by itself.
        self.release.send(()).ok();
        self.ended.await.map_err(|error| Error::guest(format!("what held the database still broke off: {error}")))?
    }
}

impl Snapshots {
    pub(super) fn new(client: Arc<Client>, freezer: Freezer, data_dir: Utf8PathBuf, owner: Owner) -> Snapshots {
        Snapshots { client, freezer: Arc::new(freezer), data_dir, owner, hold: Mutex::new(None) }
    }

    fn keeper(&self) -> Keeper {
        Keeper {
            client: Arc::clone(&self.client),
            freezer: Arc::clone(&self.freezer),
            data_dir: self.data_dir.clone(),
            owner: self.owner.clone(),
        }
    }
}

#[async_trait]
impl VolumeSnapshots for Snapshots {
    async fn hold(&self, op: &Op) -> Result<Map<String, Value>> {
        let mut slot = self.hold.lock().await;
        if let Some(before) = slot.take() {
            tracing::warn!("the database is still held for an earlier snapshot, whose controller has not come back; letting go");
            before.end().await?;
        }
        let (ready, is_held) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let hold = Hold { release, ended: crate::op::spawn(self.keeper().keep(op.clone(), ready, released)) };
        let Ok(place) = is_held.await else {
            return Err(hold.end().await.err().unwrap_or_else(|| Error::guest("the database could not be held still")));
        };
        *slot = Some(hold);
        tracing::info!("database and volume are held still for a snapshot");
        match serde_json::to_value(place) {
            Ok(Value::Object(place)) => Ok(place),
            _ => Ok(Map::new()),
        }
    }

    async fn release(&self) -> Result<()> {
        let hold = self.hold.lock().await.take();
        let hold = hold.ok_or_else(|| {
            Error::guest(format!("nothing is held still any more: agent or database were stopped since pre_create_backup, and {WORTHLESS}"))
        })?;
        hold.end().await
    }

    async fn abandon(&self) {
        let Some(hold) = self.hold.lock().await.take() else { return };
        tracing::warn!("database or agent are about to stop: letting go of what is held still for a snapshot");
        if let Err(error) = hold.end().await {
            tracing::error!(%error, "a snapshot is worth nothing");
        }
    }
}

/// The task that holds them: the lock lives as long as its session.
struct Keeper {
    client: Arc<Client>,
    freezer: Arc<Freezer>,
    data_dir: Utf8PathBuf,
    owner: Owner,
}

impl Keeper {
    async fn keep(self, op: Op, ready: oneshot::Sender<Option<SnapshotPlace>>, released: oneshot::Receiver<()>) -> Result<()> {
        let mut session = self.client.session(&op).await?;
        let place = match self.lock(&op, &mut session).await {
            Ok(place) => place,
            Err(error) => {
                session.close().await;
                return Err(error);
            }
        };
        let asked = if ready.send(place).is_ok() { self.wait(&op, released).await } else { Ok(()) };
        let let_go = self.let_go(session).await;
        asked.and(let_go)
    }

    /// Nobody writes when this returns; after an error the lock goes with the session.
    async fn lock(&self, op: &Op, session: &mut Session<'_>) -> Result<Option<SnapshotPlace>> {
        session.run(op, "keep the session", &SqlText::new(STAY)).await?;
        session.run(op, "lock all tables", &SqlText::new("FLUSH TABLES WITH READ LOCK")).await?;
        let place = SnapshotPlace::of(op, session).await?;
        let note = SnapshotPlace::note(place.as_ref(), &self.data_dir).action("note the snapshot's place with the data")?;
        if let Some(note) = note {
            self.owner.take(op, &note).await?;
        }
        self.freezer.freeze(op).await?;
        Ok(place)
    }

    async fn wait(&self, op: &Op, released: oneshot::Receiver<()>) -> Result<()> {
        tokio::select! {
            // Cancel-safe: a channel, a timer and a token.
            _ = released => Ok(()),
            () = tokio::time::sleep(LONGEST_HOLD) => Err(Error::guest(format!(
                "the database was held still for {} s, which is as long as it may be, and {WORTHLESS}", LONGEST_HOLD.as_secs()
            ))),
            () = op.cancel.cancelled() => Err(Error::Cancelled { action: "hold the database still".into() }),
        }
    }

    /// First the volume: whoever waits for it answers nobody. Then the proof that the lock was there all the time, and its end.
    async fn let_go(&self, mut session: Session<'_>) -> Result<()> {
        // The one that began this may be cancelled.
        let op = Op::internal(CancellationToken::new());
        let thawed = self.freezer.thaw().await;
        let unlock_tables = SqlText::new("UNLOCK TABLES");
        let unlock = session.run(&op, "unlock all tables", &unlock_tables);
        let unlocked = match tokio::time::timeout(ANSWER_DEADLINE, unlock).await {
            Ok(unlocked) => unlocked,
            Err(_) => Err(Error::Timeout { action: "unlock all tables".into(), after: ANSWER_DEADLINE, detail: String::new() }),
        };
        session.close().await;
        thawed?;
        // A session that ended in between took its lock with it.
        unlocked.map_err(|error| Error::guest(format!("the lock on the database was lost ({error}): {WORTHLESS}")))
    }
}
