//! [`TarReader`]: takes a tar apart while it arrives, of GNU tar or of POSIX (pax).

use bytes::{Buf, Bytes, BytesMut};

use crate::error::{Error, Result};

const BLOCK: usize = 512;
/// Longest name or record of one in a header of its own.
const MAX_NAME: u64 = 1 << 20;

/// What comes out of a tar: files, each with its content and an end. Directories, links and what else there may be are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TarEvent {
    /// A file begins.
    File(String),
    /// A piece of it.
    Data(Bytes),
    /// All of it has come.
    End,
}

/// What the content after a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    /// The name of the next entry (GNU).
    Name,
    /// Records about the next entry (POSIX).
    Records,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Content {
        kind: Kind,
        left: u64,
        padding: u64,
    },
    /// After the block of zeros that ends it; what follows is filling.
    Ended,
}

/// [`Self::push`] bytes as they come, and take [`Self::next_event`] until there is none; [`Self::finish`] after the last ones.
#[derive(Debug)]
pub(super) struct TarReader {
    buffer: BytesMut,
    place: Place,
    at: u64,
    name: Option<String>,
    size: Option<u64>,
}

impl Default for TarReader {
    fn default() -> TarReader {
        TarReader { buffer: BytesMut::new(), place: Place::Header, at: 0, name: None, size: None }
    }
}

/// Whether content that begins like this is a tar.
pub(super) fn is_tar(first: &[u8]) -> bool {
    first.get(257..262) == Some(b"ustar")
}

fn damaged(reason: String) -> Error {
    Error::Storage { action: "read the tar".into(), reason, transient: false }
}

/// A field of text: up to its end, or to its first zero.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

/// A number in octal digits, or, with its highest bit set, in binary ones (GNU).
fn number(field: &[u8]) -> Option<u64> {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        let (high, low) = field.split_at_checked(field.len().checked_sub(8)?)?;
        let fits = high.iter().skip(1).all(|byte| *byte == 0) && high.first() == Some(&0x80);
        return fits.then(|| low.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)));
    }
    let digits = text(field);
    let digits = digits.trim_matches(' ');
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// The sum of all bytes, those of the sum itself taken for blanks.
fn checksum(header: &[u8]) -> u64 {
    let byte = |(index, byte): (usize, &u8)| if (148..156).contains(&index) { u64::from(b' ') } else { u64::from(*byte) };
    header.iter().enumerate().map(byte).sum()
}

impl TarReader {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn take(&mut self, count: u64) -> Option<Bytes> {
        let count = usize::try_from(count).ok().filter(|count| *count <= self.buffer.len())?;
        self.at += count as u64;
        Some(self.buffer.split_to(count).freeze())
    }

    /// As many as there are, of so many.
    fn some_of(&mut self, left: u64) -> Bytes {
        let count = left.min(self.buffer.len() as u64);
        self.take(count).unwrap_or_default()
    }

    /// What is next; `None` until more bytes come.
    ///
    /// # Errors
    /// It is damaged, or no tar.
    pub(super) fn next_event(&mut self) -> Result<Option<TarEvent>> {
        loop {
            match self.place {
                Place::Ended => {
                    self.buffer.clear();
                    return Ok(None);
                }
                Place::Header => {
                    let Some(header) = self.take(BLOCK as u64) else { return Ok(None) };
                    if let Some(event) = self.header(&header)? {
                        return Ok(Some(event));
                    }
                }
                Place::Content { kind: Kind::File, left, padding } if left > 0 => {
                    if self.buffer.is_empty() {
                        return Ok(None);
                    }
                    let piece = self.some_of(left);
                    self.place = Place::Content { kind: Kind::File, left: left - piece.len() as u64, padding };
                    return Ok(Some(TarEvent::Data(piece)));
                }
                Place::Content { kind: kind @ (Kind::Name | Kind::Records), left, padding } if left > 0 => {
                    let Some(content) = self.take(left) else { return Ok(None) };
                    match kind {
                        Kind::Name => self.name = Some(text(&content)),
                        _ => self.records(&content)?,
                    }
                    self.place = Place::Content { kind, left: 0, padding };
                }
                Place::Content { kind, left, padding } => {
                    let skipped = self.some_of(left + padding).len() as u64;
                    let rest = left + padding - skipped;
                    if rest > 0 {
                        self.place = Place::Content { kind, left: 0, padding: rest };
                        return Ok(None);
                    }
                    self.place = Place::Header;
                    if kind == Kind::File {
                        return Ok(Some(TarEvent::End));
                    }
                }
            }
        }
    }

    fn header(&mut self, header: &[u8]) -> Result<Option<TarEvent>> {
        if header.iter().all(|byte| *byte == 0) {
            self.place = Place::Ended;
            return Ok(None);
        }
        let field = |begin: usize, end: usize| header.get(begin..end).unwrap_or_default();
        let at = self.at - BLOCK as u64;
        let unreadable = || damaged(format!("the header at byte {at} cannot be read: it is damaged"));
        if number(field(148, 156)) != Some(checksum(header)) {
            return Err(unreadable());
        }
        let said = number(field(124, 136)).ok_or_else(unreadable)?;
        let kind = match field(156, 157) {
            [0 | b'0' | b'7'] => Kind::File,
            b"L" => Kind::Name,
            b"x" => Kind::Records,
            _ => Kind::Other,
        };
        let is_entry = matches!(kind, Kind::File | Kind::Other);
        let left = self.size.take_if(|_| is_entry).unwrap_or(said);
        if !is_entry && left > MAX_NAME {
            return Err(unreadable());
        }
        let padding = left.next_multiple_of(BLOCK as u64) - left;
        self.place = Place::Content { kind, left, padding };
        let own = || {
            let prefix = if field(257, 263) == b"ustar\0" { text(field(345, 500)) } else { String::new() };
            let separator = if prefix.is_empty() { "" } else { "/" };
            format!("{prefix}{separator}{}", text(field(0, 100)))
        };
        let name = self.name.take_if(|_| is_entry).unwrap_or_else(own);
        Ok((kind == Kind::File).then_some(TarEvent::File(name)))
    }

    /// `<length> <key>=<value>`, each with a line's end (POSIX, "pax Extended Header").
    fn records(&mut self, mut content: &[u8]) -> Result<()> {
        while !content.is_empty() {
            let unreadable = || damaged(format!("a record in front of byte {} cannot be read: it is damaged", self.at));
            let blank = content.iter().position(|byte| *byte == b' ').ok_or_else(unreadable)?;
            let length = content.get(..blank).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
            let length = length.filter(|length| *length > blank + 1 && *length <= content.len()).ok_or_else(unreadable)?;
            let record = content.get(blank + 1..length - 1).unwrap_or_default();
            let record = String::from_utf8_lossy(record);
            match record.split_once('=') {
                Some(("path", value)) => self.name = Some(value.to_owned()),
                Some(("size", value)) => self.size = Some(value.parse().map_err(|_| unreadable())?),
                _ => {}
            }
            content.advance(length);
        }
        Ok(())
    }

    /// After the last bytes.
    ///
    /// # Errors
    /// There should be more.
    pub(super) fn finish(&self) -> Result<()> {
        match self.place {
            Place::Ended => Ok(()),
            _ => Err(damaged(format!("it ends in the middle, after {} bytes", self.at + self.buffer.len() as u64))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(name: &str, kind: u8, size: usize) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar  \0");
        let sum = checksum(&header);
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header
    }

    fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(name, kind, content.len());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    /// Files with their contents, read in pieces of this size.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<(String, Vec<u8>)>> {
        let (mut reader, mut files) = (TarReader::default(), Vec::<(String, Vec<u8>)>::new());
        for piece in bytes.chunks(piece) {
            reader.push(piece);
            while let Some(event) = reader.next_event()? {
                match event {
                    TarEvent::File(name) => files.push((name, Vec::new())),
                    TarEvent::Data(data) => files.last_mut().unwrap().1.extend(data),
                    TarEvent::End => {}
                }
            }
        }
        reader.finish().map(|()| files)
    }

    proptest! {
        #[test]
        fn files_come_out_as_they_went_in(
            files in proptest::collection::vec(("[a-z/.%+]{1,90}", proptest::collection::vec(any::<u8>(), 0..1500), any::<bool>()), 0..5),
            piece in 1_usize..2000,
        ) {
            let mut bytes = entry("directory/", b'5', b"");
            for (name, content, is_long) in &files {
                if *is_long {
                    bytes.extend(entry("././@LongLink", b'L', format!("{name}\0").as_bytes()));
                }
                bytes.extend(entry(if *is_long { "short" } else { name }, b'0', content));
            }
            bytes.extend([0; 4 * BLOCK]);
            prop_assert!(is_tar(&bytes));
            let wanted: Vec<_> = files.into_iter().map(|(name, content, _)| (name, content)).collect();
            prop_assert_eq!(read(&bytes, piece).unwrap(), wanted);
            // Without its end it is not whole.
            prop_assert!(read(&bytes[..bytes.len() - 4 * BLOCK], piece).is_err());
        }

        #[test]
        fn nothing_that_is_read_for_a_tar_hurts(bytes in proptest::collection::vec(any::<u8>(), 0..3000), piece in 1_usize..700) {
            read(&bytes, piece).ok();
        }
    }

    #[test]
    fn records_of_posix_and_large_sizes_are_read() {
        let mut bytes = entry("header", b'x', b"20 path=a/long/name\n10 size=3\n");
        bytes.extend(header("short", b'0', 0));
        bytes.extend(b"abc");
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes.extend([0; 2 * BLOCK]);
        assert_eq!(read(&bytes, 100).unwrap(), [("a/long/name".to_owned(), b"abc".to_vec())]);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]), Some((2 << 32) | 1));
        let mut bad = header("name", b'0', 0);
        bad[0] ^= 1;
        assert!(read(&bad, 512).unwrap_err().to_string().contains("damaged"));
    }
}
