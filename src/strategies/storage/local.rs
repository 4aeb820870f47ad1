//! [`LocalStorage`]: a folder, for a machine without an object store.
//!
//! `<folder>/<container>/<segment>` are the segments as Swift would have them, `<folder>/<container>/<object>.json` is the manifest, written last.
//! All segments of a backup in a row are the backup.

use std::io::SeekFrom;

use async_trait::async_trait;
use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use md5::{Digest, Md5};
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::quoting::{escape, unquote};
use super::{ByteSender, ByteStream, Location, ObjectName, Part, Segment, SegmentBody, Storage, StoredObject, Visit, byte_stream, pieces};
use crate::error::{Error, Result, ResultExt};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::system::files;

/// Bytes read at once, and how many such buffers wait for a reader.
const BUFFER: usize = 1 << 16;
const BUFFERS: usize = 4;
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Ends the name of a manifest's file; no segment's ends so.
const MANIFEST: &str = ".json";
/// Begins the name of a segment's file until it is whole; no segment's begins so.
const PARTIAL: &str = ".trove-";

/// Backups in a folder.
#[derive(Debug)]
pub(super) struct LocalStorage {
    folder: Utf8PathBuf,
}

/// The file that makes segments a backup.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    segments: Vec<Entry>,
    metadata: BackupMetadata,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    size: u64,
    md5: String,
}

/// The only version there is.
const VERSION: u32 = 1;

impl LocalStorage {
    pub(super) fn new(folder: Utf8PathBuf) -> Self {
        LocalStorage { folder }
    }

    pub(super) fn container(&self, name: &str) -> Result<Utf8PathBuf> {
        file_name(name).map(|name| self.folder.join(name))
    }

    pub(super) fn path(&self, name: &ObjectName) -> Result<Utf8PathBuf> {
        Ok(self.container(&name.container)?.join(file_name(&name.object)?))
    }

    fn manifest_path(&self, name: &ObjectName) -> Result<Utf8PathBuf> {
        Ok(self.container(&name.container)?.join(format!("{}{MANIFEST}", file_name(&name.object)?)))
    }

    fn read_manifest(&self, action: &str, name: &ObjectName) -> Result<Manifest> {
        let path = self.manifest_path(name)?;
        let Some(text) = files::read_optional(&path)? else { return Err(failed(action, "it is not there")) };
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|error| failed(action, &format!("{path} is not a manifest: {error}")))?;
        if manifest.version == VERSION {
            Ok(manifest)
        } else {
            Err(failed(action, &format!("{path} is of version {}, which this agent does not know", manifest.version)))
        }
    }

    /// That the segments are files of the right size.
    fn see_all(&self, action: &str, segments: &[Segment]) -> Result<()> {
        for segment in segments {
            let path = self.path(&segment.name)?;
            match std::fs::metadata(&path) {
                Ok(found) if found.len() == segment.size => {}
                Ok(found) => {
                    let reason = format!("the segment {} has {} bytes, and not {}", segment.name, found.len(), segment.size);
                    return Err(failed(action, &reason));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(failed(action, &format!("the segment {} is missing", segment.name)));
                }
                Err(error) => return Err(error).action(format!("look at {path}")),
            }
        }
        Ok(())
    }
}

fn failed(action: &str, reason: &str) -> Error {
    Error::Storage { action: action.to_owned(), reason: reason.to_owned(), transient: false }
}

/// A name no file system minds and no path can escape with.
fn file_name(name: &str) -> Result<String> {
    if name.is_empty() {
        return Err(Error::invalid("a container or object of a backup has no name"));
    }
    let quoted = escape(name, |byte| byte.is_ascii_alphanumeric() || b"-._~ ".contains(&byte));
    Ok(quoted.strip_prefix('.').map_or(quoted.clone(), |rest| format!("%2E{rest}")))
}

fn checksum(segments: &[Segment]) -> String {
    match segments {
        [lone] => lone.md5.clone(),
        _ => pieces::checksum(segments.iter().map(|segment| segment.md5.as_str())),
    }
}

/// Writes the stream into a new file; returns its MD5 and size.
async fn receive(action: &str, file: std::fs::File, mut body: SegmentBody) -> Result<(String, u64)> {
    let mut file = tokio::fs::File::from_std(file);
    let (mut sum, mut size) = (Md5::new(), 0_u64);
    while let Some(bytes) = body.bytes.recv().await {
        let bytes = bytes?;
        file.write_all(&bytes).await.action(action)?;
        sum.update(&bytes);
        size += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }
    file.flush().await.action(action)?;
    file.sync_all().await.action(action)?;
    Ok((format!("{:x}", sum.finalize()), size))
}

#[async_trait]
impl Storage for LocalStorage {
    fn location(&self, name: &ObjectName) -> String {
        format!("file://{}/{name}", self.folder)
    }

    async fn visit(&self, _op: &Op, container: &str) -> Result<Visit> {
        let path = self.container(container)?;
        let there = [&path, &self.folder].into_iter().find(|path| path.exists());
        let Some(there) = there else {
            return Err(failed("look at backup_local_dir", &format!("there is no {}", self.folder)));
        };
        access(there.as_std_path(), AccessFlags::W_OK | AccessFlags::X_OK).action(format!("write to {there}"))?;
        Ok(Visit { found: format!("{there} can be written to"), time: None })
    }

    async fn ensure_container(&self, _op: &Op, container: &str) -> Result<()> {
        let path = self.container(container)?;
        files::ensure_directory(&self.folder, DIRECTORY_MODE, None)?;
        files::ensure_directory(&path, DIRECTORY_MODE, None)
    }

    async fn put_segment(&self, op: &Op, name: &ObjectName, body: SegmentBody) -> Result<String> {
        let action = format!("store the segment {name}");
        let path = self.path(name)?;
        let directory = path.parent().unwrap_or(Utf8Path::new("/"));
        // Mode 0600, and removed unless it gets its name.
        // Named after the segment: what a killed agent leaves of it goes with the others.
        let prefix = format!("{PARTIAL}{}-", path.file_name().unwrap_or_default());
        let temporary = tempfile::Builder::new().prefix(&prefix).tempfile_in(directory).action(&action)?;
        let file = temporary.as_file().try_clone().action(&action)?;
        let announced = body.size;
        let (md5, size) = op.until_cancelled(&action, receive(&action, file, body)).await??;
        if let Some(announced) = announced.filter(|announced| *announced != size) {
            return Err(failed(&action, &format!("{size} bytes came, and not {announced}")));
        }
        temporary.persist(&path).map_err(|error| error.error).action(&action)?;
        std::fs::File::open(directory).and_then(|directory| directory.sync_all()).action(&action)?;
        Ok(md5)
    }

    async fn put_manifest(&self, _op: &Op, name: &ObjectName, segments: &[Segment], metadata: &BackupMetadata) -> Result<String> {
        let action = format!("store the manifest {name}");
        if segments.is_empty() {
            return Err(failed(&action, "there are no segments"));
        }
        self.see_all(&action, segments)?;
        let entry = |segment: &Segment| Entry { name: segment.name.object.clone(), size: segment.size, md5: segment.md5.clone() };
        let manifest = Manifest { version: VERSION, segments: segments.iter().map(entry).collect(), metadata: metadata.clone() };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| failed(&action, &error.to_string()))?;
        files::write_atomic(&self.manifest_path(name)?, &text, FILE_MODE, None)?;
        Ok(checksum(segments))
    }

    async fn delete(&self, _op: &Op, name: &ObjectName) -> Result<()> {
        // The manifest first: from then on nobody takes what is left for a backup.
        files::remove(&self.manifest_path(name)?)?;
        let container = self.container(&name.container)?;
        let entries = match container.read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).action(format!("list {container}")),
        };
        for entry in entries {
            let entry = entry.action(format!("list {container}"))?;
            let file = entry.file_name();
            let partial = file.strip_prefix(PARTIAL).and_then(|rest| rest.rsplit_once('-')).map(|(segment, _)| segment);
            if pieces::is_piece(name, &unquote(partial.unwrap_or(file).as_bytes())) {
                files::remove(entry.path())?;
            }
        }
        Ok(())
    }

    async fn inspect(&self, _op: &Op, location: &Location) -> Result<StoredObject> {
        let name = location.name();
        let action = format!("look at the backup {name}");
        let manifest = self.read_manifest(&action, name)?;
        let part = |entry: Entry| Part { name: ObjectName::new(&name.container, entry.name), size: entry.size, md5: entry.md5 };
        let parts: Vec<Part> = manifest.segments.into_iter().map(part).collect();
        self.see_all(&action, &parts)?;
        let size = parts.iter().map(|part| part.size).sum();
        Ok(StoredObject { checksum: checksum(&parts), size, metadata: manifest.metadata, parts })
    }

    async fn read(&self, op: &Op, part: &Part, offset: u64) -> Result<ByteStream> {
        let action = format!("read {} from byte {offset}", part.name);
        let mut file = tokio::fs::File::open(self.path(&part.name)?).await.action(&action)?;
        file.seek(SeekFrom::Start(offset)).await.action(&action)?;
        let (sender, stream) = byte_stream(BUFFERS);
        let (op, left) = (op.clone(), part.size.saturating_sub(offset));
        crate::op::spawn(async move {
            if let Ok(Err(error)) | Err(error) = op.until_cancelled(&action, pass_on(&action, file, left, &sender)).await {
                // A reader that has gone needs no error.
                drop(sender.send(Err(error)).await);
            }
        });
        Ok(stream)
    }
}

/// Passes the rest of a file on, `left` bytes of it.
async fn pass_on(action: &str, mut file: tokio::fs::File, mut left: u64, sender: &ByteSender) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = file.read(&mut buffer).await.action(action)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        left =
            left.checked_sub(u64::try_from(count).unwrap_or(u64::MAX)).ok_or_else(|| failed(action, "the file is longer than it was"))?;
        if sender.send(Ok(Bytes::copy_from_slice(bytes))).await.is_err() {
            return Ok(());
        }
    }
    if left == 0 { Ok(()) } else { Err(failed(action, &format!("the file ends {left} bytes early"))) }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn no_name_leaves_its_folder() {
        for name in ["..", ".", "../x", "/etc/passwd", "a/b", "\0", ".trove-x"] {
            let file = file_name(name).unwrap();
            assert!(!file.starts_with('.') && !file.contains(['/', '\0']), "{name}: {file}");
        }
        assert_eq!(file_name("b1.xbstream.gz_00000000").unwrap(), "b1.xbstream.gz_00000000");
        assert!(file_name("").is_err());
    }
}
