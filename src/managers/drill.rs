//! The restore drill: a backup is restored into a directory of its own, a server that nobody else can reach is started on it and looks at all of
//! it, and everything is thrown away. Only then is it known that the backup is one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::ser::SerializeMap;
use tokio_util::sync::CancellationToken;

use super::restore::Chain;
use super::{Backups, RestoreTarget};
use crate::config::BackupSettings;
use crate::error::{Error, Result, ResultExt};
use crate::model::RestoreRequest;
use crate::op::Op;
use crate::strategies::storage::Storage;
use crate::system::files;
use crate::volume;

/// Name of the directory on the data volume, or in the one that was asked for.
const DIRECTORY: &str = ".trove-drill";
/// The instance's own database needs room too: a drill ends when less than this is left on its file system, or this part of it.
const LEAST_LEFT: u64 = 256 << 20;
const LEAST_PART: u64 = 20;
/// Between two looks at the space left.
const LOOK: Duration = Duration::from_millis(500);

/// What is counted in a database: tables, keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Items {
    /// What they are called.
    pub name: &'static str,
    /// How many there are.
    pub count: u64,
}

impl Serialize for Items {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.name, &self.count)?;
        map.end()
    }
}

/// What a server found in a restored backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// The server that looked: `MariaDB 10.11.14`.
    pub server: String,
    /// Databases that are not the server's own.
    pub databases: u64,
    /// What is in them.
    #[serde(flatten)]
    pub items: Items,
    /// What is wrong, in the server's words; nothing in a sound backup.
    pub problems: Vec<String>,
}

impl Examination {
    /// What a caller who wants a sound backup is told.
    ///
    /// # Errors
    /// The problems, if there are any.
    pub fn verdict(&self) -> Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let action = "verify the restored backup".to_owned();
        Err(Error::Storage { action, reason: format!("it is damaged: {}", self.problems.join("; ")), transient: false })
    }
}

/// True when a drill failed because of the backup, not because it could not be held.
pub fn tells_of_damage(error: &Error) -> bool {
    match error {
        Error::During { source, .. } => tells_of_damage(source),
        Error::Storage { transient, .. } => !transient,
        // The tool refused what it was given.
        Error::Command { .. } => true,
        _ => false,
    }
}

/// How a drill went.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Backups in the chain: 1 for a full one.
    pub backups: usize,
    /// Bytes read from storage.
    pub stored: u64,
    /// Seconds it took.
    pub seconds: f64,
    /// What was found.
    #[serde(flatten)]
    pub found: Examination,
}

/// Where and with what a drill is held.
#[derive(Debug)]
pub struct Drill<'a> {
    /// How backups are read.
    pub settings: &'a BackupSettings,
    /// Where the backup is.
    pub storage: Arc<dyn Storage>,
    /// Keeps two drills apart.
    pub state_dir: &'a Utf8Path,
    /// A directory with room for the restored database; the server's account must be able to get there.
    pub room: &'a Utf8Path,
}

impl Drill<'_> {
    /// Holds it. Whatever comes of it, nothing is left.
    ///
    /// # Errors
    /// The backup is not whole, or not restorable; or the drill could not be held (no room, another one is on).
    pub async fn hold(&self, op: &Op, backups: &dyn Backups, request: &RestoreRequest) -> Result<Report> {
        let began = Instant::now();
        let _lock = self.lock()?;
        let directory = self.room.join(DIRECTORY);
        let data = directory.join("data");
        // Of a drill whose agent was killed.
        backups.clear_scratch(op, &data).await?;
        let chain = Chain::inspect(op, Arc::clone(&self.storage), self.settings, request).await?;
        let (depth, stored) = (chain.depth(), chain.stored_size());
        self.check_room(chain.least_size())?;
        // Passable, no more: the server's account owns what is below.
        files::ensure_directory(&directory, 0o711, None)?;
        let found = self.restore_and_examine(op, backups, chain, &data).await;
        // Also after a cancellation, which must not leave a database around.
        let cleared = backups.clear_scratch(&Op::internal(CancellationToken::new()), &data).await;
        let removed = files::remove_tree(&directory);
        let found = found?;
        cleared.and(removed)?;
        Ok(Report { backups: depth, stored, seconds: began.elapsed().as_secs_f64(), found })
    }

    async fn restore_and_examine(&self, op: &Op, backups: &dyn Backups, chain: Chain, data: &Utf8PathBuf) -> Result<Examination> {
        let target = RestoreTarget::Scratch(data.clone());
        let work = async {
            chain.restore(op, backups, self.settings, &target, self.room).await?;
            tracing::info!("the backup is restored; a server looks at it");
            backups.examine(op, data).await.action("look at the restored backup")
        };
        tokio::select! {
            // Cancel-safe: what is dropped ends its programs; the directory goes either way.
            found = work => found,
            left = self.room_runs_out() => Err(Error::guest(format!(
                "the drill was given up: only {} MiB are left at {}; give it a directory with more room",
                left >> 20, self.room
            ))),
        }
    }

    fn lock(&self) -> Result<Flock<std::fs::File>> {
        let path = self.state_dir.join("drill.lock");
        let file = std::fs::File::create(&path).action(format!("open {path}"))?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| Error::guest(format!("another restore drill is on ({path}: {errno}): wait for its end")))
    }

    /// A restored database takes more than its files in the backup, and the instance's own goes on growing.
    fn check_room(&self, least: u64) -> Result<()> {
        let stats = volume::filesystem_stats(self.room)?;
        let available = stats.available();
        let needed = least.saturating_mul(2).saturating_add(reserve(&stats));
        if available >= needed {
            return Ok(());
        }
        Err(Error::guest(format!(
            "a drill needs about {} MiB at {}, and there are {}: give it a directory with more room",
            needed.div_ceil(1 << 20),
            self.room,
            available >> 20
        )))
    }

    /// Returns what is left once that is too little.
    async fn room_runs_out(&self) -> u64 {
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            if let Ok(stats) = volume::filesystem_stats(self.room) {
                let available = stats.available();
                if available < reserve(&stats) {
                    return available;
                }
            }
        }
    }
}

fn reserve(stats: &volume::FilesystemStats) -> u64 {
    (stats.size() / LEAST_PART).min(LEAST_LEFT)
}
