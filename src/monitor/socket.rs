//! The agent's Unix socket: whoever connects reads one JSON document and the end. Its directory is root's alone.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::roles::Roles;
use super::{Operations, Snapshot, Told};
use crate::config::Settings;
use crate::error::{Error, Result, ResultExt};
use crate::journal;
use crate::managers::DatastoreManager;
use crate::status::{Phase, StatusTracker};

/// How long one reader may take.
const READER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the agent of this `state_dir` listens.
pub fn socket_path(state_dir: &Utf8Path) -> Utf8PathBuf {
    state_dir.join("agent.sock")
}

/// Answers on the socket.
#[derive(Debug)]
pub struct Monitor {
    settings: Arc<Settings>,
    status: Arc<StatusTracker>,
    operations: Arc<Operations>,
    told: Arc<Told>,
    roles: Roles,
    started: f64,
}

impl Monitor {
    /// Of the agent that starts now.
    pub fn new(
        settings: Arc<Settings>,
        status: Arc<StatusTracker>,
        operations: Arc<Operations>,
        told: Arc<Told>,
        manager: Arc<dyn DatastoreManager>,
    ) -> Self {
        Monitor { settings, status, operations, told, roles: Roles::new(manager), started: journal::now() }
    }

    /// Where the agent keeps its state.
    pub(super) fn state_dir(&self) -> &Utf8Path {
        &self.settings.state_dir
    }

    /// When the last backup of each state has ended.
    pub(super) fn last_backups(&self) -> impl Iterator<Item = (String, f64)> + use<> {
        self.told.last_backups().into_iter().map(|(state, backup)| (state, backup.ended))
    }

    /// The agent at this moment, and what its database says of its part.
    async fn full_snapshot(&self) -> Snapshot {
        let mut snapshot = self.snapshot();
        if snapshot.phase == Phase::Active {
            snapshot.role = self.roles.now().await;
        }
        snapshot
    }

    /// The agent at this moment, without what only its database knows.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            guest_id: self.settings.guest_id.clone(),
            datastore_manager: self.settings.datastore_manager.clone(),
            pid: std::process::id(),
            started: self.started,
            phase: self.status.phase(),
            role: None,
            last_heartbeat: self.told.last_heartbeat(),
            last_backup: self.told.last_backup(),
            operations: self.operations.views(),
        }
    }

    /// Serves until `cancel`. An agent without its socket still serves the controller: a failure is logged.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let path = socket_path(&self.settings.state_dir);
        let listener = match bind(&path) {
            Ok(listener) => listener,
            Err(error) => return tracing::warn!(%error, %path, "nobody can ask what the agent is doing: its socket cannot be made"),
        };
        loop {
            let accepted = tokio::select! {
                // Cancel-safe: a connection that is not accepted yet stays in the backlog.
                accepted = listener.accept() => accepted,
                () = cancel.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let monitor = Arc::clone(&self);
                    tokio::spawn(async move { monitor.answer(stream).await });
                }
                Err(error) => {
                    tracing::debug!(%error, "failed to accept a reader");
                    // Out of descriptors: not in a tight loop.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // The next start replaces what is left.
        std::fs::remove_file(&path).ok();
    }

    async fn answer(&self, mut stream: UnixStream) {
        let sent = async {
            let text = serde_json::to_vec(&self.full_snapshot().await).map_err(io::Error::from)?;
            stream.write_all(&text).await?;
            stream.shutdown().await
        };
        if let Ok(Err(error)) = tokio::time::timeout(READER_TIMEOUT, sent).await {
            tracing::debug!(%error, "a reader of the agent's socket went away");
        }
    }
}

/// Binds, in place of what an agent that was killed left behind.
pub(super) fn bind(path: &Utf8Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // `state_dir` keeps others out already.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Asks the agent of `state_dir`.
///
/// # Errors
/// No agent answers.
pub async fn ask(state_dir: &Utf8Path) -> Result<Snapshot> {
    let path = socket_path(state_dir);
    let asked = async {
        let mut text = Vec::new();
        UnixStream::connect(&path).await?.read_to_end(&mut text).await?;
        serde_json::from_slice(&text).map_err(io::Error::from)
    };
    match tokio::time::timeout(READER_TIMEOUT, asked).await {
        Ok(answer) => answer.action(format!("ask the agent at {path} (is it running, and are you root?)")),
        Err(_) => Err(Error::Timeout { action: format!("ask the agent at {path}"), after: READER_TIMEOUT, detail: String::new() }),
    }
}
