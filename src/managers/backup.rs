//! The template flow of `create_backup`: the same for every datastore and every storage. Nothing of a backup that failed stays behind.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::Backups;
use super::drill::{self, Drill};
use crate::config::{BackupSettings, Settings};
use crate::error::{Error, Result, ResultExt};
use crate::model::{BackupMetadata, BackupRequest, Release, RestoreRequest};
use crate::op::Op;
use crate::progress::Progress;
use crate::strategies::backup::{BackupJob, BackupRunner, Encoding, Limits, Pace, Parent, RateLimits, discard, encode, upload};
use crate::strategies::storage::{Location, ObjectName, Storage};
use crate::system::{files, leftovers};
use crate::volume;

/// Between two lines about a backup under way.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Where a backup's bytes go, and how.
#[derive(Debug)]
pub struct BackupEnv {
    /// The agent's configuration.
    pub settings: Arc<Settings>,
    /// Where it is stored, with the request's credentials.
    pub storage: Arc<dyn Storage>,
    /// The controller's release: it decides about encryption without a key.
    pub release: Release,
    /// Where the data are: what is used there tells about how much there will be, and a drill is held there.
    pub mount_point: Utf8PathBuf,
}

/// A backup that is whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Class name of the runner that made it.
    pub runner: String,
    /// Checksum of the stored object.
    pub checksum: String,
    /// Where it is.
    pub location: String,
    /// What is kept with it.
    pub metadata: BackupMetadata,
}

/// On disk from a backup's begin until the next one's: what is to be deleted when the agent ends in the middle, and what is to be told when it ends
/// between the backup's end and its note of that.
#[derive(Debug, Serialize, Deserialize)]
struct Trace {
    id: String,
    container: String,
    object: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished: Option<Finished>,
}

impl Trace {
    fn load(settings: &Settings) -> Result<Option<Trace>> {
        let Some(text) = files::read_optional(&trace_file(settings))? else { return Ok(None) };
        let trace = serde_json::from_str(&text);
        trace.map(Some).map_err(|error| Error::guest(format!("the note of the backup under way is damaged: {error}")))
    }

    fn save(&self, settings: &Settings) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| Error::guest(format!("cannot note the backup: {error}")))?;
        files::write_atomic(&trace_file(settings), &text, 0o600, None)
    }
}

/// The backup with this id, if it is whole although the agent that made it could not note that any more.
///
/// # Errors
/// The note of it cannot be read.
pub fn finished(settings: &Settings, id: &str) -> Result<Option<Finished>> {
    Ok(Trace::load(settings)?.filter(|trace| trace.id == id).and_then(|trace| trace.finished))
}

fn trace_file(settings: &Settings) -> Utf8PathBuf {
    settings.state_dir.join("backup.json")
}

/// Type of a backup in the words of a release: the Python runner's class name up to Victoria, then `full` or `incremental`.
pub fn type_word(release: Release, runner: &str, incremental: bool) -> &str {
    match (release, incremental) {
        (Release::Kilo | Release::Train, _) => runner,
        (_, true) => "incremental",
        (_, false) => "full",
    }
}

/// The password of encrypted backups. Kilo and Train encrypted with a key that everybody knows when they were given none.
pub fn encryption_key(settings: &BackupSettings, release: Release) -> Option<SecretString> {
    if !settings.encrypt {
        return None;
    }
    let public = || (release <= Release::Train).then(|| BackupSettings::PUBLIC_KEY.into());
    settings.aes_cbc_key.clone().or_else(public)
}

/// Ids become names of objects: they must not be able to name others.
fn check_id(id: &str) -> Result<()> {
    if !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Ok(());
    }
    Err(Error::bad_request("the backup's id is no UUID"))
}

impl BackupEnv {
    /// Makes a backup with this runner, and with `backup_drill` restores it for a try. After an error nothing of it is left, unless the error says so; [`undo`] must be called then.
    ///
    /// # Errors
    /// The tool, the storage, or the agent's end; a backup that is damaged.
    pub async fn create(&self, op: &Op, backups: &dyn Backups, runner: &dyn BackupRunner, request: &BackupRequest) -> Result<Finished> {
        check_id(&request.id)?;
        let encoding = Encoding { compress: self.settings.backup.compress, key: encryption_key(&self.settings.backup, self.release) };
        let name = self.name(runner, &encoding, request);
        let parent = self.parent(op, request).await.action("look at the parent backup")?;
        self.storage.ensure_container(op, &name.container).await?;
        let mut trace = Trace { id: request.id.clone(), container: name.container.clone(), object: name.object.clone(), finished: None };
        trace.save(&self.settings)?;
        let job = BackupJob { id: request.id.clone(), parent, extra_options: self.extra_options(runner) };
        let finished = self.transfer(op, (backups, runner), &job, encoding, &name, request).await?;
        if self.settings.backup.drill {
            self.drill(op, backups, runner, &finished).await.action("restore the backup for a try")?;
        }
        trace.finished = Some(finished.clone());
        trace.save(&self.settings)?;
        if let Err(error) = runner.stored(op, &finished.metadata).await {
            tracing::warn!(%error, "something is kept on this guest for a backup that does not need it any more");
        }
        Ok(finished)
    }

    /// A damaged backup is an error. One that could not be looked at (no room, another drill is on) is as good as without a drill.
    async fn drill(&self, op: &Op, backups: &dyn Backups, runner: &dyn BackupRunner, finished: &Finished) -> Result<()> {
        let room = self.settings.backup.drill_dir.as_ref().unwrap_or(&self.mount_point);
        let (settings, storage) = (&self.settings.backup, Arc::clone(&self.storage));
        let drill = Drill { settings, storage, state_dir: &self.settings.state_dir, room };
        let request = RestoreRequest::of(finished.location.clone(), Some(finished.checksum.clone()), Some(runner.name().to_owned()));
        match drill.hold(op, backups, &request).await {
            Ok(report) => {
                report.found.verdict()?;
                tracing::info!(location = finished.location, seconds = report.seconds, "the backup was restored for a try and is sound");
                Ok(())
            }
            Err(error) if op.cancel.is_cancelled() || drill::tells_of_damage(&error) => Err(error),
            Err(error) => {
                tracing::error!(%error, location = finished.location, "failed to restore a backup for a try; nobody knows whether it is sound");
                Ok(())
            }
        }
    }

    async fn transfer(
        &self,
        op: &Op,
        (backups, runner): (&dyn Backups, &dyn BackupRunner),
        job: &BackupJob,
        encoding: Encoding,
        name: &ObjectName,
        request: &BackupRequest,
    ) -> Result<Finished> {
        let progress = Progress::new(format!("backup {}", job.id));
        if let Ok(stats) = volume::filesystem_stats(&self.mount_point) {
            progress.expect_content(stats.occupied());
        }
        op.progress.set(&progress);
        let _lines = progress.log_every(LOG_INTERVAL);
        let limits = Limits::new(&self.settings.backup);
        let (pace, _following) = Pace::following(op, RateLimits::new(&self.settings.backup), backups.usage()).await;
        let stream = runner.start(op, job).await.action(format!("start {}", runner.name()))?;
        let encoded = encode(pace.slow(stream.reader), encoding, Arc::clone(&progress));
        // When this fails, the tool ends with `stream.finish`.
        let uploaded = upload(op, &*self.storage, name, encoded, &limits, &progress).await.action("store the backup")?;
        let mut metadata = stream.finish.await.action(format!("make the backup with {}", runner.name()))?;
        let facts = [("datastore", &request.datastore), ("datastore_version", &request.datastore_version)];
        metadata.extend(facts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))));
        if !runner.extension().is_empty() {
            // Of an archive of files this is the room they take; the text of a dump says little of that.
            metadata.insert("content_size".to_owned(), progress.snapshot().content.to_string());
        }
        // The store compares each segment with the manifest, and the storage the whole: of nested manifests the checksum is another one.
        let checksum = self.storage.put_manifest(op, name, &uploaded.segments, &metadata).await.action("finish the stored backup")?;
        tracing::info!(backup = job.id, "stored: {}", progress.snapshot());
        Ok(Finished { runner: runner.name().to_owned(), checksum, location: self.storage.location(name), metadata })
    }

    fn name(&self, runner: &dyn BackupRunner, encoding: &Encoding, request: &BackupRequest) -> ObjectName {
        let container = request.swift_container.clone().unwrap_or_else(|| self.settings.backup.container.clone());
        ObjectName::new(container, format!("{}{}{}", request.id, runner.extension(), encoding.suffix()))
    }

    /// What an incremental backup builds on, checked to be what the controller means.
    async fn parent(&self, op: &Op, request: &BackupRequest) -> Result<Option<Parent>> {
        let Some(parent) = &request.parent else { return Ok(None) };
        let object = self.storage.inspect(op, &Location::parse(&parent.location)?).await?;
        check_checksum(&self.settings.backup, parent.checksum.as_deref(), &object.checksum, &parent.location)?;
        Ok(Some(Parent { location: parent.location.clone(), checksum: object.checksum, metadata: object.metadata }))
    }

    fn extra_options(&self, runner: &dyn BackupRunner) -> Vec<String> {
        let options = self.settings.backup.runner_options.iter().find(|(strategy, _)| strategy == runner.name());
        options.map(|(_, text)| text.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
    }
}

/// Compares what the store has with what the controller (or a child's metadata) says, unless that is switched off.
///
/// # Errors
/// They differ.
pub(super) fn check_checksum(settings: &BackupSettings, expected: Option<&str>, stored: &str, location: &str) -> Result<()> {
    match expected.map(|text| text.trim_matches('"')) {
        Some(expected) if settings.verify_checksum && !expected.is_empty() && expected != stored => Err(Error::Storage {
            action: format!("check the backup at {location}"),
            reason: format!("its checksum is {stored}, and not {expected}: it was replaced or damaged"),
            transient: false,
        }),
        _ => Ok(()),
    }
}

/// Deletes what there is of a backup that failed, or that the agent's end cut short.
///
/// # Errors
/// Something may still be stored; the next start of the agent tries again.
pub async fn undo(op: &Op, settings: &Settings, storage: &dyn Storage, id: &str) -> Result<()> {
    leftovers::kill_marked(&format!("{}={id}", BackupJob::MARK));
    let Some(trace) = Trace::load(settings)? else { return Ok(()) };
    if trace.id == id {
        discard(storage, &ObjectName::new(trace.container, trace.object), op.context.clone()).await?;
        files::remove(&trace_file(settings))?;
    }
    Ok(())
}

/// The runner for a request.
///
/// # Errors
/// Those of [`Backups::runner`].
pub async fn runner(op: &Op, backups: &dyn Backups, request: &BackupRequest) -> Result<Box<dyn BackupRunner>> {
    backups.runner(op, request.parent.is_some()).await.action("choose the backup tool")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(extra: &str) -> BackupSettings {
        let text = format!("[DEFAULT]\nguest_id = g\ndatastore_manager = mysql\ntransport_url = rabbit://u:p@127.0.0.1/\n{extra}");
        Settings::from_text("guest.conf", &text).unwrap().backup
    }

    #[test]
    fn each_release_has_its_own_words_and_its_own_default_key() {
        assert_eq!(type_word(Release::Train, "InnoBackupExIncremental", true), "InnoBackupExIncremental");
        assert_eq!((type_word(Release::Zed, "MySQLDump", false), type_word(Release::Gazpacho, "MySQLDump", true)), ("full", "incremental"));
        let key = |settings: &BackupSettings, release| encryption_key(settings, release).is_some();
        let plain = settings("");
        assert!(key(&plain, Release::Kilo) && key(&plain, Release::Train) && !key(&plain, Release::Zed));
        assert!(key(&settings("backup_aes_cbc_key = k"), Release::Gazpacho));
        assert!(!key(&settings("backup_use_openssl_encryption = false\nbackup_aes_cbc_key = k"), Release::Kilo));
    }

    #[test]
    fn an_id_cannot_name_anything_else() {
        check_id("4f0c9f0e-8b7a-4c5e-9d57-1c2b6a6f1f10").unwrap();
        for bad in ["", "../x", "a.b", "a/b", "a_0"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn checksums_are_compared_unless_switched_off() {
        let check = |settings: &BackupSettings, expected| check_checksum(settings, expected, "abc", "l");
        let on = settings("");
        check(&on, Some("\"abc\"")).unwrap();
        check(&on, None).unwrap();
        assert!(check(&on, Some("abd")).unwrap_err().to_string().contains("not abd"));
        check(&settings("verify_swift_checksum_on_restore = false"), Some("abd")).unwrap();
    }
}
