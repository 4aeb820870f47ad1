//! [`ArchiveCheck`]: a stored base backup, looked at while it is unpacked.
//!
//! `pg_basebackup` writes ustar archives of plain files and directories (src/port/tar.c); a data directory has nothing else in it, unless there are
//! tablespaces outside, which are links.

use camino::{Utf8Component, Utf8Path};

use super::wal;
use crate::error::{Error, Result};

const BLOCK: usize = 512;

/// Sees to it that an archive has only files and directories in it, with names below the directory it is unpacked to.
#[derive(Debug, Default)]
pub struct ArchiveCheck {
    /// Files of the server's log and nothing else.
    of_log: bool,
    header: Vec<u8>,
    /// Bytes of content, padded, until the next header.
    content: u64,
    members: u64,
    ended: bool,
}

impl ArchiveCheck {
    /// For an archive of files of the server's log, all in one directory.
    pub fn of_log() -> ArchiveCheck {
        ArchiveCheck { of_log: true, ..ArchiveCheck::default() }
    }

    /// The next bytes of the archive.
    ///
    /// # Errors
    /// This is no archive, or not one of a data directory.
    pub fn see(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() && !self.ended {
            if self.content > 0 {
                let skipped = usize::try_from(self.content).unwrap_or(usize::MAX).min(bytes.len());
                self.content -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            let (head, rest) = bytes.split_at((BLOCK - self.header.len()).min(bytes.len()));
            self.header.extend_from_slice(head);
            bytes = rest;
            if self.header.len() == BLOCK {
                self.content = self.member()?;
                self.header.clear();
            }
        }
        Ok(())
    }

    /// To be asked at the end.
    ///
    /// # Errors
    /// It broke off.
    pub fn end(&self) -> Result<()> {
        if self.ended && self.members > 0 { Ok(()) } else { Err(refused("the archive breaks off".into())) }
    }

    /// Reads a header; returns how much content follows.
    fn member(&mut self) -> Result<u64> {
        let header = &self.header;
        if header.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(0);
        }
        if &header[257..262] != b"ustar" {
            return Err(refused("this is no base backup: it is not an archive of files".into()));
        }
        let name = name(header);
        let path = Utf8Path::new(&name);
        let is_inside = path.components().all(|part| matches!(part, Utf8Component::Normal(_) | Utf8Component::CurDir));
        if name.is_empty() || !is_inside {
            return Err(refused(format!("'{}' in the archive is outside of the data directory", name.escape_debug())));
        }
        if self.of_log && !(wal::is_file_of_log(&name) && matches!(header[156], b'0' | 0)) {
            return Err(refused(format!("'{}' in the archive is no file of the server's log", name.escape_debug())));
        }
        match header[156] {
            b'0' | 0 | b'5' => {}
            b'2' => {
                let reason = format!(
                    "'{}' in the archive is a link: tablespaces outside of the data directory are not restored",
                    name.escape_debug()
                );
                return Err(refused(reason));
            }
            _ => return Err(refused(format!("'{}' in the archive is neither a file nor a directory", name.escape_debug()))),
        }
        self.members += 1;
        let size = size(&header[124..136]).ok_or_else(|| refused("a size in the archive is no number".into()))?;
        size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| refused("a size in the archive is no number".into()))
    }
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

fn name(header: &[u8]) -> String {
    // GNU's archives, `ustar  `, have times where the prefix would be.
    let prefix = if header[262] == 0 { text(&header[345..500]) } else { String::new() };
    let name = text(&header[..100]);
    if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
}

/// Octal digits; or, of 8 GiB and more, a number with the highest bit of its first byte set.
fn size(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        return Some(field[4..].iter().fold(0, |size, byte| size << 8 | u64::from(*byte)));
    }
    u64::from_str_radix(text(field).trim(), 8).ok()
}

fn refused(reason: String) -> Error {
    Error::Storage { action: "unpack the base backup".into(), reason, transient: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        block.extend_from_slice(content);
        block.resize(block.len().next_multiple_of(BLOCK), 0);
        block
    }

    fn look(archive: &[u8], piece: usize) -> Result<()> {
        let mut check = ArchiveCheck::default();
        archive.chunks(piece).try_for_each(|bytes| check.see(bytes))?;
        check.end()
    }

    #[test]
    fn files_and_directories_pass_and_nothing_else_does() {
        let end = vec![0; 2 * BLOCK];
        let good =
            [member("backup_label", b'0', b"START"), member("base/", b'5', b""), member("base/5/1249", b'0', &[7; 8192]), end.clone()]
                .concat();
        for piece in [1, 100, 512, 4096, good.len()] {
            look(&good, piece).unwrap();
        }
        assert!(look(&good[..good.len() - 2 * BLOCK], 512).unwrap_err().to_string().contains("breaks off"));
        for (name, kind, said) in [
            ("../etc/passwd", b'0', "outside"),
            ("base/../../x", b'0', "outside"),
            ("/etc/passwd", b'0', "outside"),
            ("", b'0', "outside"),
            ("pg_tblspc/16384", b'2', "is a link"),
            ("x", b'1', "neither"),
            ("x", b'x', "neither"),
            ("pipe", b'6', "neither"),
        ] {
            let error = look(&[member(name, kind, b""), end.clone()].concat(), 512).unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
        assert!(look(&[b"-- MariaDB dump".to_vec(), vec![b' '; 600]].concat(), 512).unwrap_err().to_string().contains("no base backup"));
        assert!(look(b"", 1).is_err());
        for (name, kind, passes) in [
            ("000000010000000000000003", b'0', true),
            ("00000002.history", b'0', true),
            ("000000010000000000000003", b'5', false),
            ("postgresql.auto.conf", b'0', false),
            ("x/000000010000000000000003", b'0', false),
        ] {
            let mut check = ArchiveCheck::of_log();
            assert_eq!(check.see(&member(name, kind, b"x")).is_ok(), passes, "{name}");
        }
    }

    #[test]
    fn sizes_of_both_forms_are_read() {
        assert_eq!(size(b"00000020000\0"), Some(8192));
        assert_eq!(size(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(8 << 30));
        assert_eq!(size(b"no number..\0"), None);
    }
}
