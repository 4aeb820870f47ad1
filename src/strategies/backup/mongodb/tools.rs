//! [`ToolDump`] and [`ToolLoad`]: `mongodump` and `mongorestore`, where the guest has them.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use camino::Utf8PathBuf;
use mongodb::bson::{RawDocument, Timestamp};
use tokio::io::{AsyncRead, ReadBuf};

use super::archive::{ArchiveError, ArchiveReader, Event};
use super::names::KIND;
use super::oplog::{self, OplogSpan};
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::strategies::backup::{BackupJob, BackupRunner, BackupStream, ToolLogin, feed};
use crate::strategies::storage::{ByteStream, byte_stream};
use crate::system::command::{CommandOutput, CommandSpec};
use crate::system::mongodb::{Address, Client};
use crate::system::service::ServiceControl;

/// The program that makes archives.
pub const DUMP: &str = "mongodump";
/// The program that takes them back.
pub const RESTORE: &str = "mongorestore";
/// What `mongodump` may still do after the end of its output.
const ENDING: Duration = Duration::from_secs(300);
/// What `mongorestore` may still do after the end of its input: it makes the indexes.
const LAST_STEPS: Duration = Duration::from_secs(12 * 3600);
/// Buffers between the archive that is looked at and the program that gets it.
const BUFFERS: usize = 4;

/// The server as the tools are told it: `--host` takes no path of a socket. Nothing secret is in it.
fn uri(address: &Address) -> String {
    match address {
        Address::Socket(path) => {
            let escaped = |byte: u8| match byte {
                byte if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            };
            format!("mongodb://{}/", path.as_str().bytes().map(escaped).collect::<String>())
        }
        Address::Tcp { host, port } if host.contains(':') => format!("mongodb://[{host}]:{port}/"),
        Address::Tcp { host, port } => format!("mongodb://{host}:{port}/"),
    }
}

/// Archives made by `mongodump`.
#[derive(Debug)]
pub struct ToolDump {
    /// A configuration file with the password; where the program runs.
    pub login: Arc<ToolLogin>,
    /// As whom.
    pub user: String,
    /// Where the server is.
    pub address: Address,
    /// The way to the server, to look whether it has an oplog.
    pub client: Client,
}

impl ToolDump {
    fn command(&self, job: &BackupJob, has_oplog: bool) -> CommandSpec {
        let command = CommandSpec::new(DUMP)
            .arg("--archive")
            .arg(format!("--config={}", self.login.path()))
            .arg(format!("--uri={}", uri(&self.address)))
            .arg(format!("--username={}", self.user))
            .arg("--authenticationDatabase=admin");
        let command = if has_oplog { command.arg("--oplog") } else { command };
        command.args(&job.extra_options).env(BackupJob::MARK, &job.id).timeout(ENDING).in_background()
    }
}

#[async_trait]
impl BackupRunner for ToolDump {
    fn name(&self) -> &'static str {
        KIND
    }

    fn extension(&self) -> &'static str {
        ""
    }

    async fn start(&self, op: &Op, job: &BackupJob) -> Result<BackupStream> {
        if job.parent.is_some() {
            return Err(Error::bad_request("there are no incremental backups of this datastore: ask for a full one"));
        }
        let session = self.client.session(op).await?;
        let has_oplog = OplogSpan::begin(op, &session).await?.is_some();
        let service = self.login.service();
        let mut running = service.spawn(op, self.command(job, has_oplog)).await?.guarded_by(Arc::clone(&self.login));
        drop(running.take_stdin());
        let Some(output) = running.take_stdout() else { return Err(Error::guest("the dump has no output")) };
        let verdict = Arc::<Mutex<Verdict>>::default();
        let reader = Inspected { inner: output, verdict: Arc::clone(&verdict) };
        let op = op.clone();
        let finish = async move {
            let output = running.finish(&op).await?;
            let verdict = std::mem::take(&mut *verdict.lock().expect("never poisoned: no panics while held"));
            let moment = verdict.moment;
            judge(&output, verdict.whole())?;
            Ok(moment.map(oplog::metadata).unwrap_or_default())
        };
        Ok(BackupStream { reader: Box::pin(reader), finish: Box::pin(finish) })
    }
}

/// The tool has ended well by its exit status: do its log and its archive say the same?
fn judge(output: &CommandOutput, archive: Result<(), ArchiveError>) -> Result<()> {
    let complaint = |line: &&str| line.contains("Failed:") || line.contains("error dumping") || line.contains("oplog overflow");
    if let Some(line) = output.stderr.lines().find(complaint) {
        return Err(Error::guest(format!("the dump ended well by its exit status, but it says: {}", line.trim())));
    }
    archive.map_err(|error| Error::guest(format!("the dump ended well by its exit status, but what it wrote is no whole archive: {error}")))
}

/// What an archive that flows by is like.
#[derive(Debug, Default)]
struct Verdict {
    reader: ArchiveReader,
    error: Option<ArchiveError>,
    /// Time of the last entry of the oplog so far.
    moment: Option<Timestamp>,
}

impl Verdict {
    fn see(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        self.reader.push(bytes);
        loop {
            match self.reader.next_event() {
                Ok(Some(Event::Document(namespace, entry))) if namespace.is_oplog() => {
                    let time = RawDocument::from_bytes(&entry).ok().and_then(|entry| entry.get_timestamp("ts").ok());
                    self.moment = time.or(self.moment);
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            }
        }
    }

    fn whole(self) -> Result<(), ArchiveError> {
        self.error.map_or_else(|| self.reader.finish(), Err)
    }
}

/// A reader of an archive that is looked at.
struct Inspected<R> {
    inner: R,
    verdict: Arc<Mutex<Verdict>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Inspected<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        self.verdict.lock().expect("never poisoned: no panics while held").see(new);
        polled
    }
}

/// `mongorestore` into a server that nobody else can reach, and that asks nobody who he is.
#[derive(Debug)]
pub struct ToolLoad {
    /// Where the program runs.
    pub service: Arc<dyn ServiceControl>,
    /// The server's socket.
    pub socket: Utf8PathBuf,
}

impl ToolLoad {
    fn command(&self, has_oplog: bool) -> CommandSpec {
        let command = CommandSpec::new(RESTORE)
            .arg("--archive")
            .arg(format!("--uri={}", uri(&Address::Socket(self.socket.clone()))))
            .arg("--stopOnError");
        let command = if has_oplog { command.arg("--oplogReplay") } else { command };
        command.timeout(LAST_STEPS)
    }

    /// Has the program load an archive, which is looked at on its way.
    ///
    /// # Errors
    /// The content broke off, or is no archive, or is damaged: that is told, and not what the program says of half an archive. The program failed.
    pub async fn load(&self, op: &Op, mut content: ByteStream) -> Result<()> {
        let mut reader = ArchiveReader::default();
        let (mut seen, mut has_oplog) = (Vec::new(), None);
        while has_oplog.is_none() {
            let Some(bytes) = op.until_cancelled("read the backup", content.recv()).await? else { break };
            let bytes = bytes?;
            reader.push(&bytes);
            seen.push(bytes);
            if let Some(Event::Prelude(prelude)) = reader.next_event()? {
                has_oplog = Some(prelude.collections.iter().any(|collection| collection.namespace.is_oplog()));
            }
        }
        let Some(has_oplog) = has_oplog else { return Ok(reader.finish()?) };
        let running = self.service.spawn(op, self.command(has_oplog)).await?;
        let (sender, all) = byte_stream(BUFFERS);
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        tokio::spawn(async move {
            for bytes in seen {
                if sender.send(Ok(bytes)).await.is_err() {
                    return;
                }
            }
            while let Some(bytes) = content.recv().await {
                if sender.send(bytes).await.is_err() {
                    return;
                }
            }
            end.store(true, Ordering::Release);
        });
        // The first buffers have been looked at already.
        let mut verdict = Verdict::default();
        let through = |bytes: Bytes| {
            verdict.see(&bytes);
            verdict.error.clone().map_or(Ok(bytes), |error| Err(error.into()))
        };
        let output = match feed(op, running, all, through).await {
            // What the program says of half an archive is no news.
            Err(error @ Error::Command { .. }) if ended.load(Ordering::Acquire) => {
                verdict.whole()?;
                return Err(error);
            }
            other => other.action("load the archive")?,
        };
        verdict.whole()?;
        match output.stderr.lines().find(|line| line.contains("Failed:")) {
            Some(line) => {
                Err(Error::guest(format!("the archive was loaded by the exit status of {RESTORE}, but it says: {}", line.trim())))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stderr: &str) -> CommandOutput {
        CommandOutput { code: 0, stdout: String::new(), stderr: stderr.to_owned() }
    }

    #[test]
    fn a_socket_is_a_name_in_an_address() {
        assert_eq!(uri(&Address::Socket("/run/mongo db/m-1.sock".into())), "mongodb://%2Frun%2Fmongo%20db%2Fm-1.sock/");
        assert_eq!(uri(&Address::Tcp { host: "::1".into(), port: 27017 }), "mongodb://[::1]:27017/");
    }

    #[test]
    fn status_log_and_archive_must_agree() {
        let log = "2026-11-26T00:50:02.123+0000\twriting admin.system.users to archive on stdout\n2026-11-26T00:50:02.2+0000\tdumped 3 oplog entries\n";
        judge(&output(log), Ok(())).unwrap();
        assert!(judge(&output(log), Err(ArchiveError::Truncated(7))).unwrap_err().to_string().contains("in the middle, after 7 bytes"));
        let failed = "2026-11-26T00:50:02.123+0000\tFailed: oplog overflow: mongodump was unable to capture all new oplog entries during execution\n";
        assert!(judge(&output(failed), Ok(())).unwrap_err().to_string().contains("oplog overflow"));
    }
}
