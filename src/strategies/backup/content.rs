//! What content is, found by looking at its beginning: names of objects and options may be wrong about it.

use super::deflate::looks_random;

/// The kinds of content that differ in how they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// `gzip`.
    Gzip,
    /// Anything else that is recognisably something.
    Plain,
}

/// Beginnings of what backup tools write: xbstream, PostgreSQL's custom format, Redis, zstd, lz4, xz, bzip2, MongoDB's archive.
const BEGINNINGS: [&[u8]; 9] = [
    b"XBSTCK01",
    b"PGDMP",
    b"REDIS",
    &[0x28, 0xb5, 0x2f, 0xfd],
    &[0x04, 0x22, 0x4d, 0x18],
    &[0xfd, b'7', b'z', b'X', b'Z'],
    b"BZh",
    &[0x6d, 0xe2, 0x99, 0x81],
    b"qpress10",
];
/// Where tar says so.
const TAR: (usize, &[u8]) = (257, b"ustar");
/// From this many bytes on their distribution tells something from noise.
const ENOUGH: usize = 1024;

/// Whether content that begins like this is gzip's: magic, deflate, no reserved flag.
pub(super) fn is_gzip(beginning: &[u8]) -> bool {
    matches!(beginning, [0x1f, 0x8b, 8, flags, ..] if flags & 0xe0 == 0)
}

/// What `beginning` is, or `None` for noise: what a wrong key makes of anything.
pub(super) fn recognise(beginning: &[u8]) -> Option<Content> {
    if is_gzip(beginning) && beginning.len() >= 10 {
        return Some(Content::Gzip);
    }
    let known = BEGINNINGS.iter().any(|magic| beginning.starts_with(magic))
        || beginning.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1))
        || is_text(beginning)
        || (beginning.len() >= ENOUGH && !looks_random(beginning));
    known.then_some(Content::Plain)
}

/// UTF-8 without control characters; it may break off within one.
fn is_text(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_nothing_and_tools_are_known() {
        let mut noise = vec![0; 4096];
        openssl::rand::rand_bytes(&mut noise).unwrap();
        noise[0] = 0xff;
        assert_eq!(recognise(&noise), None);
        assert_eq!(recognise(&noise[..64]), None);
        assert_eq!(recognise(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1]), Some(Content::Gzip));
        let tar = [vec![0xff; 257], b"ustar\0".to_vec()].concat();
        let counter: Vec<u8> = (0..2048_u32).flat_map(u32::to_le_bytes).collect();
        for plain in
            [b"-- MariaDB dump 10.19".as_slice(), "Zürich".as_bytes(), &"Zü".as_bytes()[..2], b"", b"XBSTCK01\0\x01", &tar, &counter]
        {
            assert_eq!(recognise(plain), Some(Content::Plain), "{plain:02x?}");
        }
    }
}
