//! [`PgBaseBackupIncremental`]: the server's log since another backup.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use camino::Utf8PathBuf;
use tokio::io::AsyncWriteExt;

use super::kept_log::KeptLog;
use super::wal::{self, History};
use super::{INSTANCE, Tools, base_facts};
use crate::error::{Error, Result};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::strategies::backup::{BackupJob, BackupRunner, BackupStream, Parent};
use crate::system::command::CommandSpec;
use crate::system::postgresql::{Client, Session, SqlText};

/// Names of restore points are cut off here (`MAXFNAMELEN`).
const LONGEST_POINT: usize = 63;

/// The segments of the log since the parent's end, as one archive.
#[derive(Debug)]
pub struct PgBaseBackupIncremental {
    /// The programs.
    pub tools: Tools,
    /// The way to the server.
    pub client: Arc<Client>,
    /// Its data directory.
    pub data_dir: Utf8PathBuf,
    /// Whose backups can be parents: the guest's id.
    pub instance: String,
    /// The server's account.
    pub account: String,
}

/// What a backup will be made of.
#[derive(Debug)]
struct Piece {
    files: Vec<String>,
    metadata: BackupMetadata,
}

async fn one(op: &Op, session: &Session<'_>, action: &str, sql: SqlText) -> Result<String> {
    let said = session.texts(op, action, &sql).await?.into_iter().next();
    said.ok_or_else(|| Error::guest(format!("the server says nothing when it is to {action}")))
}

async fn place(op: &Op, session: &Session<'_>, action: &str, sql: SqlText) -> Result<(String, u64)> {
    let text = one(op, session, action, sql).await?;
    let position = wal::position(&text).ok_or_else(|| Error::guest(format!("'{text}' is no position in the log")))?;
    Ok((text, position))
}

/// Where the parent ends, and on which timeline.
fn end_of(parent: &Parent) -> Result<(u64, u32)> {
    let fact = |key: &str| parent.metadata.get(key).map(String::as_str);
    let end = fact("stop_segment").and_then(wal::position).zip(fact("stop_wal_file").and_then(wal::timeline_of));
    end.ok_or_else(|| {
        Error::bad_request(format!(
            "there is no position in the log with the parent backup {}: an incremental one cannot build on it",
            parent.location
        ))
    })
}

impl PgBaseBackupIncremental {
    fn kept(&self) -> KeptLog {
        KeptLog { client: Arc::clone(&self.client) }
    }

    /// Ends a segment of the log, and names those since the parent's end.
    async fn cut(&self, op: &Op, job: &BackupJob, parent: &Parent, (from, parents_timeline): (u64, u32), size: u64) -> Result<Piece> {
        let session = self.client.session(op).await?;
        let current = one(op, &session, "tell its timeline", SqlText::new("SELECT pg_walfile_name(pg_current_wal_lsn())")).await?;
        let current = wal::timeline_of(&current).ok_or_else(|| Error::guest("the server does not say on which timeline it is"))?;
        let history = match wal::history_name(current) {
            Some(name) => {
                let sql = SqlText::new("SELECT pg_read_file(").literal(&format!("pg_wal/{name}")).raw(")");
                History::parse(current, &one(op, &session, "tell the history of its timeline", sql).await?)
            }
            None => History::parse(current, ""),
        };
        if !history.has(parents_timeline, from) {
            return Err(Error::bad_request(format!(
                "the server has gone another way than the parent backup {} (it is on timeline {current} now): make a full backup",
                parent.location
            )));
        }
        // The restore point comes after this position: there is a record to recover up to.
        let (stop, target) = place(op, &session, "tell where its log is", SqlText::new("SELECT pg_current_wal_insert_lsn()")).await?;
        let label: String = job.id.chars().take(LONGEST_POINT).collect();
        let sql = SqlText::new("SELECT pg_create_restore_point(").literal(&label).raw(")");
        session.run(op, "set a restore point", &sql).await?;
        let (_, end) = place(op, &session, "end a segment of the log", SqlText::new("SELECT pg_switch_wal()")).await?;
        let sql = SqlText::new("SELECT checkpoint_lsn FROM pg_control_checkpoint()");
        let (checkpoint, _) = place(op, &session, "tell its last checkpoint", sql).await?;
        let listed = session.rows(op, "list the files of the log", &SqlText::new("SELECT name, size FROM pg_ls_waldir()")).await?;
        let file = |row: Vec<Option<String>>| match row.as_slice() {
            [Some(name), Some(size)] => Some((name.clone(), size.parse().ok()?)),
            _ => None,
        };
        let present: BTreeMap<String, u64> = listed.into_iter().filter_map(file).collect();
        let last = end.saturating_sub(1).max(target) / size;
        let files = history.files((from / size, last), size, &present)?;
        let named = |segment| wal::file_name(current, segment, size).unwrap_or_default();
        let first_file = files.iter().find(|name| wal::is_segment(name)).cloned().unwrap_or_default();
        let facts = [
            ("start_segment", parent.metadata.get("stop_segment").cloned().unwrap_or_default()),
            ("start_wal_file", first_file),
            ("stop_segment", stop),
            ("stop_wal_file", named(last)),
            ("checkpoint_location", checkpoint),
            ("label", job.id.clone()),
            (INSTANCE, self.instance.clone()),
            ("parent_location", parent.location.clone()),
            ("parent_checksum", parent.checksum.clone()),
        ];
        Ok(Piece { files, metadata: facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() })
    }

    fn command(&self, job: &BackupJob) -> CommandSpec {
        CommandSpec::new("tar")
            .args(["--create", "--file=-", "--format=ustar"])
            .args(&job.extra_options)
            .arg(format!("--directory={}", self.data_dir.join("pg_wal")))
            .arg("--files-from=-")
            .as_user(&self.account)
            .env(BackupJob::MARK, &job.id)
            .timeout(Tools::ENDING)
            .in_background()
    }
}

#[async_trait]
impl BackupRunner for PgBaseBackupIncremental {
    fn name(&self) -> &'static str {
        "PgBaseBackupIncremental"
    }

    fn extension(&self) -> &'static str {
        ".tar"
    }

    async fn start(&self, op: &Op, job: &BackupJob) -> Result<BackupStream> {
        let Some(parent) = &job.parent else { return Err(Error::bad_request("an incremental backup needs a parent")) };
        let end = end_of(parent)?;
        if parent.metadata.get(INSTANCE) != Some(&self.instance) {
            let reason = format!("the parent backup {} was not made by this instance's agent: make a full backup", parent.location);
            return Err(Error::bad_request(reason));
        }
        let session = self.client.session(op).await?;
        if one(op, &session, "tell whether it follows another", SqlText::new("SELECT pg_is_in_recovery()::text")).await? == "true" {
            return Err(Error::bad_request("a replica makes full backups only: its log is its source's"));
        }
        let size = base_facts::segment_size(op, &session).await?;
        drop(session);
        self.kept().require(op, end.0, size, &parent.location).await?;
        let piece = self.cut(op, job, parent, end, size).await?;
        tracing::info!(segments = piece.files.len(), "storing the log since the parent backup");
        let mut running = self.tools.login.service().spawn(op, self.command(job)).await?;
        let (Some(mut input), Some(output)) = (running.take_stdin(), running.take_stdout()) else {
            return Err(Error::guest("the archive has no output"));
        };
        let names = piece.files.join("\n") + "\n";
        // When it cannot be written the program has ended, and says why.
        crate::op::spawn(async move { input.write_all(names.as_bytes()).await });
        let (op, kept, location) = (op.clone(), self.kept(), parent.location.clone());
        let finish = async move {
            running.finish(&op).await?;
            // What the server dropped meanwhile it may have written over.
            kept.require(&op, end.0, size, &location).await?;
            Ok(piece.metadata)
        };
        Ok(BackupStream { reader: Box::pin(output), finish: Box::pin(finish) })
    }

    async fn stored(&self, op: &Op, metadata: &BackupMetadata) -> Result<()> {
        match base_facts::stop(metadata) {
            Some(stop) => self.kept().release(op, stop).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_without_a_position_is_refused() {
        let parent = |facts: &[(&str, &str)]| Parent {
            location: "l".into(),
            checksum: "c".into(),
            metadata: facts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        let file = ("stop_wal_file", "00000002000000000000000A");
        assert_eq!(end_of(&parent(&[("stop_segment", "0/A000100"), file])).unwrap(), (0xA00_0100, 2));
        for bad in [&[][..], &[file], &[("stop_segment", "0/A000100")], &[("stop_segment", "lsn"), file]] {
            assert!(end_of(&parent(bad)).unwrap_err().to_string().contains("no position"));
        }
    }
}
