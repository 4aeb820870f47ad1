//! [`Lsn`]: a place in the server's log.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A place in the write-ahead log (`pg_lsn`): bytes since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

impl FromStr for Lsn {
    type Err = Error;

    /// Reads what servers say: `1A/2B000028`.
    fn from_str(text: &str) -> Result<Lsn, Error> {
        let half = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
        let parsed = text.split_once('/').and_then(|(high, low)| Some(half(high)? << 32 | half(low)?));
        parsed.map(Lsn).ok_or_else(|| Error::bad_request(format!("'{}' is no place in a log of PostgreSQL", text.escape_debug())))
    }
}

impl Lsn {
    /// Name of the file with this place in it (src/include/access/xlog_internal.h: `XLogFileName`); `None` for a size that no server has.
    pub fn file_name(self, timeline: u32, segment_size: u64) -> Option<String> {
        let segment = self.0.checked_div(segment_size)?;
        let per_id = (1_u64 << 32).checked_div(segment_size)?;
        Some(format!("{timeline:08X}{:08X}{:08X}", segment.checked_div(per_id)?, segment.checked_rem(per_id)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbers_and_not_text() {
        let (small, big): (Lsn, Lsn) = ("9/0".parse().unwrap(), "10/A0000028".parse().unwrap());
        assert!(small < big && "9/0" > "10/A0000028");
        assert_eq!(big.to_string(), "10/A0000028");
        assert_eq!(big.file_name(2, 16 << 20).unwrap(), "0000000200000010000000A0");
        for bad in ["", "1", "/", "1/", "0-1-5", "1/123456789", "x/1"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }
}
