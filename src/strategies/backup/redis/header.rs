//! [`RdbHeader`]: what an RDB file says of itself before its data (src/rdb.c: `rdbSaveInfoAuxFields`).

/// What is kept of the beginning.
const ENOUGH: usize = 4096;
const MAGIC: &[u8] = b"REDIS";
/// Valkey 9 writes this for formats of its own (src/rdb.h).
const VALKEY: &[u8] = b"VALKEY";
const DIGITS: usize = 4;
const AUX: u8 = 0xfa;

/// Facts from the beginning of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdbHeader {
    /// Version of the format: Redis counts on, Valkey began again at 80.
    pub version: u32,
    /// Version of the server that made it.
    pub server: Option<String>,
    /// Bytes of memory its data took there.
    pub memory: Option<u64>,
}

impl RdbHeader {
    /// Bytes of a file's beginning that hold all of it.
    pub const LENGTH: usize = ENOUGH;

    /// Reads the beginning of a file; `None` when it is no RDB file.
    pub fn parse(beginning: &[u8]) -> Option<RdbHeader> {
        let rest = beginning.strip_prefix(MAGIC).map(|rest| (rest, DIGITS));
        let (rest, digits) = rest.or_else(|| beginning.strip_prefix(VALKEY).map(|rest| (rest, DIGITS - 1)))?;
        let (version, mut rest) = rest.split_at_checked(digits)?;
        if !version.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let version = str::from_utf8(version).ok()?.parse().ok()?;
        let mut header = RdbHeader { version, ..RdbHeader::default() };
        while let Some((&AUX, after)) = rest.split_first() {
            let Some((name, after)) = string(after) else { break };
            let Some((value, after)) = string(after) else { break };
            match name.as_str() {
                "redis-ver" | "valkey-ver" => header.server = Some(value),
                "used-mem" => header.memory = value.parse().ok(),
                _ => {}
            }
            rest = after;
        }
        Some(header)
    }
}

/// A string: text with its length, or a number (src/rdb.c: `rdbGenericLoadStringObject`). Compressed ones are not among the facts.
fn string(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let little = |rest: &[u8], count: usize| {
        let (number, rest) = rest.split_at_checked(count)?;
        let value = number.iter().rev().fold(0_i64, |value, byte| value << 8 | i64::from(*byte));
        // Signed, in so many bytes.
        let unused = 64 - 8 * u32::try_from(count).ok()?;
        Some((((value << unused) >> unused).to_string(), rest.to_owned()))
    };
    let (length, rest) = match (first >> 6, first & 0x3f) {
        (0, short) => (usize::from(short), rest),
        (1, high) => {
            let (&low, rest) = rest.split_first()?;
            (usize::from(high) << 8 | usize::from(low), rest)
        }
        (3, kind @ 0..=2) => {
            let count = 1 << kind;
            return little(rest, count).map(|(text, _)| (text, &rest[count..]));
        }
        _ => return None,
    };
    let (text, rest) = rest.split_at_checked(length)?;
    Some((String::from_utf8_lossy(text).into_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_and_noise_is_not() {
        // As Redis 7.0 begins a file: versions, bits, time, memory.
        let file = b"REDIS0010\xfa\x09redis-ver\x067.0.15\xfa\x0aredis-bits\xc0\x40\xfa\x05ctime\xc2\xd0\x8a\x23\x6a\xfa\x08used-mem\xc2\x40\x42\x0f\x00\xfe\x00";
        let header = RdbHeader::parse(file).unwrap();
        assert_eq!(header, RdbHeader { version: 10, server: Some("7.0.15".into()), memory: Some(1_000_000) });
        for cut in 0..file.len() {
            RdbHeader::parse(&file[..cut]);
        }
        assert_eq!(RdbHeader::parse(b"REDIS0006"), Some(RdbHeader { version: 6, ..RdbHeader::default() }));
        assert_eq!(RdbHeader::parse(b"VALKEY080\xfa\x0avalkey-ver\x059.0.0\xff").unwrap().server.as_deref(), Some("9.0.0"));
        assert_eq!((RdbHeader::parse(b"-- MariaDB dump"), RdbHeader::parse(b"REDIS00x1"), RdbHeader::parse(b"")), (None, None, None));
    }
}
