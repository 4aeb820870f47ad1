//! The template flow of a restore: the whole chain is looked at before anything is emptied, then taken back from its root on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;

use super::backup::check_checksum;
use super::{Backups, RestoreTarget};
use crate::config::BackupSettings;
use crate::error::{Error, Result, ResultExt};
use crate::model::RestoreRequest;
use crate::op::Op;
use crate::progress::Progress;
use crate::strategies::backup::{Decoding, RestoreStep, Retry, download};
use crate::strategies::storage::{Location, Storage, StoredObject};
use crate::volume;

/// Between two lines about a restore under way.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// A backup with all it builds on, looked at and found whole.
#[derive(Debug)]
pub struct Chain {
    storage: Arc<dyn Storage>,
    kind: Option<String>,
    /// Name of the object that was asked for.
    object: String,
    /// The full backup first.
    links: Vec<StoredObject>,
}

impl Chain {
    /// Follows `parent_location` from the backup that was asked for to the full one.
    ///
    /// # Errors
    /// One of them is not there, is not the expected one, or builds on itself.
    pub async fn inspect(op: &Op, storage: Arc<dyn Storage>, settings: &BackupSettings, request: &RestoreRequest) -> Result<Chain> {
        let object = Location::parse(&request.location)?.name().object.clone();
        let (mut links, mut seen) = (Vec::new(), HashSet::new());
        let mut next = Some((request.location.clone(), request.checksum.clone()));
        while let Some((text, expected)) = next {
            let location = Location::parse(&text)?;
            if !seen.insert(location.name().clone()) {
                return Err(Error::guest(format!("the backup at {location} builds on itself: its metadata are damaged")));
            }
            let found = storage.inspect(op, &location).await.action(format!("look at the backup {}", location.name()))?;
            check_checksum(settings, expected.as_deref(), &found.checksum, &text)?;
            let parent = |key: &str| found.metadata.get(key).filter(|value| !value.is_empty()).cloned();
            next = parent("parent_location").map(|location| (location, parent("parent_checksum")));
            links.push(found);
        }
        links.reverse();
        Ok(Chain { storage, kind: request.kind.clone(), object, links })
    }

    /// How many backups there are.
    pub fn depth(&self) -> usize {
        self.links.len()
    }

    /// Bytes in storage, of all of them.
    pub fn stored_size(&self) -> u64 {
        self.links.iter().map(|link| link.size).sum()
    }

    /// Bytes that the restored database takes at least: what the tools wrote, where that was kept, otherwise what is stored of it.
    pub fn least_size(&self) -> u64 {
        let size = |link: &StoredObject| link.metadata.get("content_size").and_then(|text| text.parse().ok()).unwrap_or(link.size);
        // Incremental backups mostly replace what is there.
        self.links.first().map_or(0, size).max(self.links.iter().map(size).max().unwrap_or(0))
    }

    /// Restores all of it.
    ///
    /// # Errors
    /// The target holds half of a database then, and the strategy sees to it that no server is started on it.
    pub async fn restore(
        self,
        op: &Op,
        backups: &dyn Backups,
        settings: &BackupSettings,
        target: &RestoreTarget,
        volume: &Utf8Path,
    ) -> Result<()> {
        let mut runner = backups.restorer(op, self.kind.as_deref(), &self.object, target).await?;
        let least = self.least_size();
        check_capacity(least, volume)?;
        runner.begin(op).await.action("make ready for the restore")?;
        check_space(least, volume)?;
        let depth = self.depth();
        let progress = Progress::new(format!("restore of {}", self.object));
        progress.expect_stored(self.stored_size());
        op.progress.set(&progress);
        let _lines = progress.log_every(LOG_INTERVAL);
        for (index, object) in self.links.into_iter().enumerate() {
            let key = settings.aes_cbc_key.clone().unwrap_or_else(|| BackupSettings::PUBLIC_KEY.into());
            let checksum = object.checksum.clone();
            let how = Decoding { checksum: settings.verify_checksum.then(|| checksum.clone()), key: Some(key), retry: Retry::default() };
            let metadata = object.metadata.clone();
            let content = download(op, Arc::clone(&self.storage), object, how, Arc::clone(&progress)).await?;
            let step = RestoreStep { index, last: index + 1 == depth, checksum, metadata, content };
            runner.apply(op, step).await.action(format!("restore backup {} of {depth}", index + 1))?;
        }
        runner.finish(op).await.action("finish the restore")?;
        tracing::info!(backups = depth, "restored: {}", progress.snapshot());
        Ok(())
    }
}

/// A backup larger than the whole volume is refused while the old data are still there.
fn check_capacity(least: u64, path: &Utf8Path) -> Result<()> {
    let Ok(stats) = volume::filesystem_stats(path) else { return Ok(()) };
    refuse(least, stats.size(), path)
}

fn check_space(least: u64, path: &Utf8Path) -> Result<()> {
    let stats = volume::filesystem_stats(path)?;
    refuse(least, stats.available(), path)
}

fn refuse(least: u64, room: u64, path: &Utf8Path) -> Result<()> {
    if least <= room {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(Error::guest(format!(
        "there is not enough space at {path}: the backup takes at least {} MiB, and there are {} MiB; restore it to a larger volume",
        mib(least),
        room >> 20
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_told_in_whole_units() {
        refuse(10, 10, "/data".into()).unwrap();
        let error = refuse((5 << 20) + 1, 3 << 20, "/data".into()).unwrap_err().to_string();
        assert!(error.contains("at least 6 MiB, and there are 3 MiB"), "{error}");
    }
}
