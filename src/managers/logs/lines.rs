//! [`LogFile`]: a log as it is now, and the pieces of whole lines it is published in. Nothing here holds more than a buffer of it in memory.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use md5::{Digest, Md5};

use crate::error::{Error, Result, ResultExt};
use crate::strategies::storage::{ByteSender, ByteStream, byte_stream};

/// Bytes read at once, and how many such buffers wait for the network.
const BUFFER: usize = 1 << 16;
const BUFFERS: usize = 4;
/// How much before the end of what is published is remembered, by its digest.
const TAIL: u64 = 4096;
/// No character of UTF-8 has more bytes.
const CHARACTER: u64 = 4;

/// An open log.
#[derive(Debug, Clone)]
pub(super) struct LogFile {
    file: Arc<File>,
    path: Utf8PathBuf,
    /// Its size when it was opened.
    pub(super) size: u64,
}

/// A part of a log that becomes an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins.
    pub(super) offset: u64,
    /// Its bytes.
    pub(super) size: u64,
    /// Its lines. One that is not at its end counts.
    pub(super) lines: u64,
    /// MD5 of its bytes, in hexadecimal digits.
    pub(super) md5: String,
}

impl Piece {
    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.size
    }
}

impl LogFile {
    /// Opens the log; `None` when there is none.
    ///
    /// # Errors
    /// It is no regular file: the server's account must not make the agent publish what only root may read, by a link.
    pub(super) fn open(path: &Utf8Path) -> Result<Option<LogFile>> {
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
        let file = match File::options().read(true).custom_flags(flags.bits()).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).action(format!("open the log {path}")),
        };
        let facts = file.metadata().action(format!("look at the log {path}"))?;
        if !facts.is_file() {
            return Err(Error::guest(format!("{path} is not a regular file, and is not published")));
        }
        Ok(Some(LogFile { file: Arc::new(file), path: path.to_owned(), size: facts.len() }))
    }

    /// MD5 of the first line, its end included: by it Trove's agents know a log again.
    pub(super) fn header_digest(&self) -> Result<String> {
        let (mut sum, mut at) = (Md5::new(), 0);
        let mut buffer = vec![0; BUFFER];
        loop {
            let bytes = self.read(&mut buffer, at, self.size)?;
            let line = bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
            let bytes = bytes.get(..line.unwrap_or(bytes.len())).unwrap_or_default();
            sum.update(bytes);
            at += length(bytes);
            if line.is_some() || bytes.is_empty() {
                return Ok(format!("{:x}", sum.finalize()));
            }
        }
    }

    /// MD5 of the last bytes before `end`: by it this agent knows a log again, also one whose first line is that of every such log.
    pub(super) fn digest_before(&self, end: u64) -> Result<String> {
        let mut sum = Md5::new();
        let mut buffer = vec![0; BUFFER];
        sum.update(self.read(&mut buffer, end.saturating_sub(TAIL), end)?);
        Ok(format!("{:x}", sum.finalize()))
    }

    /// What is to be stored next: whole lines from `offset` on, at most `limit` bytes; a part of a line where one is longer, and what there is of
    /// the last line. `None` at the end.
    pub(super) fn piece(&self, offset: u64, limit: u64) -> Result<Option<Piece>> {
        let end = self.size.min(offset.saturating_add(limit.max(1)));
        let (whole, cut) = self.scan(offset, end)?;
        if whole.size == 0 {
            return Ok(None);
        }
        if whole.end() >= self.size {
            return Ok(Some(whole));
        }
        match cut {
            Some(cut) => Ok(Some(cut)),
            // Its readers decode each piece by itself.
            None => match self.broken_character(whole.offset, whole.end())? {
                0 => Ok(Some(whole)),
                broken => self.scan(offset, whole.end() - broken).map(|(whole, _)| Some(whole)),
            },
        }
    }

    /// All of it between the two places, and the part of that up to the end of the last line.
    fn scan(&self, offset: u64, end: u64) -> Result<(Piece, Option<Piece>)> {
        let (mut sum, mut size, mut lines) = (Md5::new(), 0, 0);
        let mut cut = None;
        let mut buffer = vec![0; BUFFER];
        loop {
            let bytes = self.read(&mut buffer, offset + size, end)?;
            if bytes.is_empty() {
                break;
            }
            let (in_lines, rest) = bytes.split_at(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1));
            sum.update(in_lines);
            lines += in_lines.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
            if !in_lines.is_empty() {
                cut = Some(Piece { offset, size: size + length(in_lines), lines, md5: format!("{:x}", sum.clone().finalize()) });
            }
            sum.update(rest);
            size += length(bytes);
        }
        let unfinished = u64::from(cut.as_ref().is_none_or(|cut| cut.size < size));
        Ok((Piece { offset, size, lines: lines + unfinished, md5: format!("{:x}", sum.finalize()) }, cut))
    }

    /// How many bytes before `end` begin a character that ends after it.
    fn broken_character(&self, start: u64, end: u64) -> Result<u64> {
        let mut buffer = vec![0; BUFFER];
        let last = self.read(&mut buffer, start.max(end.saturating_sub(CHARACTER)), end)?;
        let leads = |byte: &u8| byte & 0b1100_0000 != 0b1000_0000;
        let Some(lead) = last.iter().rposition(leads) else { return Ok(0) };
        let tail = last.get(lead..).unwrap_or_default();
        let broken = matches!(std::str::from_utf8(tail), Err(error) if error.error_len().is_none());
        // A piece has at least one byte.
        Ok(if broken && length(tail) < end - start { length(tail) } else { 0 })
    }

    /// The bytes of a piece.
    pub(super) fn stream(&self, piece: &Piece) -> ByteStream {
        let (sender, stream) = byte_stream(BUFFERS);
        let (log, from, end) = (self.clone(), piece.offset, piece.end());
        crate::op::spawn_blocking(move || log.pass_on(from, end, &sender));
        stream
    }

    fn pass_on(&self, from: u64, end: u64, sender: &ByteSender) {
        let mut at = from;
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = self.read(&mut buffer, at, end).map(Bytes::copy_from_slice);
            if matches!(&read, Ok(bytes) if bytes.is_empty()) {
                return;
            }
            at += read.as_ref().map_or(0, |bytes| length(bytes));
            let failed = read.is_err();
            // A receiver that has gone needs nothing more.
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    }

    /// Bytes from `at` on, not beyond `end`; none where the file ends.
    fn read<'a>(&self, buffer: &'a mut [u8], at: u64, end: u64) -> Result<&'a [u8]> {
        let wanted = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        let count = self.file.read_at(part, at).action(format!("read the log {}", self.path))?;
        Ok(part.get(..count).unwrap_or_default())
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log(content: &[u8]) -> (tempfile::TempDir, LogFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("log")).unwrap();
        std::fs::write(&path, content).unwrap();
        let log = LogFile::open(&path).unwrap().unwrap();
        (folder, log)
    }

    fn pieces(log: &LogFile, limit: u64) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        while let Some(piece) = log.piece(pieces.last().map_or(0, Piece::end), limit).unwrap() {
            pieces.push(piece);
        }
        pieces
    }

    #[test]
    fn pieces_are_whole_lines() {
        let (_folder, log) = log("one\ntwo\nüü\nlonger than the limit\nend".as_bytes());
        let found: Vec<(u64, u64, u64)> = pieces(&log, 9).iter().map(|piece| (piece.offset, piece.size, piece.lines)).collect();
        assert_eq!(found, [(0, 8, 2), (8, 5, 1), (13, 9, 1), (22, 9, 1), (31, 7, 2)]);
        assert_eq!(pieces(&log, 1_000)[0].lines, 5);
    }

    #[test]
    fn no_link_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("log")).unwrap();
        assert!(LogFile::open(&path).unwrap().is_none());
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(LogFile::open(&path).is_err());
        assert!(LogFile::open(Utf8Path::new("/dev/null")).is_err());
    }

    #[test]
    fn digests_of_the_beginning_and_of_the_end() {
        let (_folder, log) = log(b"first\nsecond\n");
        // printf 'first\n' | md5sum
        assert_eq!(log.header_digest().unwrap(), "eb260e9ae827821beceeed4104f0ad89");
        assert_eq!(log.digest_before(6).unwrap(), log.header_digest().unwrap());
        assert_ne!(log.digest_before(13).unwrap(), log.header_digest().unwrap());
    }

    proptest! {
        #[test]
        fn pieces_in_a_row_are_the_log(content in "(\\PC{0,12}\\n){0,20}\\PC{0,30}", limit in 4_u64..40) {
            let (_folder, log) = log(content.as_bytes());
            let mut whole = Vec::new();
            for piece in pieces(&log, limit) {
                let start = usize::try_from(piece.offset).unwrap();
                let bytes = &content.as_bytes()[start..usize::try_from(piece.end()).unwrap()];
                prop_assert!(piece.size <= limit);
                prop_assert_eq!(format!("{:x}", Md5::digest(bytes)), piece.md5);
                let text = std::str::from_utf8(bytes).expect("no character is cut");
                prop_assert_eq!(u64::try_from(text.split_inclusive('\n').count()).unwrap(), piece.lines);
                whole.extend_from_slice(bytes);
            }
            prop_assert_eq!(whole, content.as_bytes());
        }
    }
}
