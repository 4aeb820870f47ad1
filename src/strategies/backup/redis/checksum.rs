//! [`Checksum`]: the one at the end of an RDB file (src/rdb.c: `rdbSaveRio`, src/crc64.c).

use crc::{CRC_64_REDIS, Crc, Digest, Table};

/// Bytes of the checksum: the last of a file.
const LENGTH: usize = 8;
/// The first version of the format that has one.
const SINCE: u32 = 5;

static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// Goes along with a file's bytes. A server that loads a damaged file finds that out, too, if it does not crash over it first.
pub(super) struct Checksum {
    digest: Digest<'static, u64, Table<16>>,
    /// The last bytes so far: they may be the checksum.
    tail: Vec<u8>,
}

impl Checksum {
    pub(super) fn new() -> Checksum {
        Checksum { digest: CRC.digest(), tail: Vec::with_capacity(LENGTH) }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let (body, end) = bytes.split_at(bytes.len().saturating_sub(LENGTH));
        let settled = (self.tail.len() + end.len()).saturating_sub(LENGTH).min(self.tail.len());
        self.digest.update(&self.tail[..settled]);
        self.tail.drain(..settled);
        // Whatever comes in front of eight bytes or more is settled by them.
        self.digest.update(body);
        self.tail.extend_from_slice(end);
    }

    /// True when what the file says is what it has, or when it says nothing: its server had `rdbchecksum no`, or its format is too old for one.
    pub(super) fn confirms(self, version: u32) -> bool {
        let Ok(stored) = <[u8; LENGTH]>::try_from(self.tail) else { return false };
        let stored = u64::from_le_bytes(stored);
        version < SINCE || stored == 0 || stored == self.digest.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_right(file: &[u8], piece: usize) -> bool {
        let mut checksum = Checksum::new();
        file.chunks(piece).for_each(|piece| checksum.update(piece));
        checksum.confirms(10)
    }

    #[test]
    fn a_right_checksum_is_right_in_pieces_of_any_size_and_a_bit_makes_it_wrong() {
        // src/crc64.c, its own test.
        assert_eq!(CRC.checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let mut file = b"REDIS0010\xfa\x09redis-ver\x067.0.15\xff".to_vec();
        file.extend(CRC.checksum(&file).to_le_bytes());
        for piece in 1..=file.len() {
            assert!(is_right(&file, piece), "{piece}");
            let mut other = file.clone();
            other[piece - 1] ^= 1;
            assert!(!is_right(&other, 7), "{piece}");
        }
    }

    #[test]
    fn none_is_right() {
        assert!(is_right(b"REDIS0010\xff\0\0\0\0\0\0\0\0", 3) && !is_right(b"REDIS", 3));
        let mut old = Checksum::new();
        old.update(b"REDIS0004 and no checksum");
        assert!(old.confirms(4));
    }
}
