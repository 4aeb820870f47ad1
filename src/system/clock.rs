//! The time of day as Python's agents write it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time in UTC. Its `Display` is Python's `str(datetime)`, always with microseconds: `2026-11-25 13:24:01.000007`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc {
    since_epoch: Duration,
}

impl Utc {
    /// The time it is.
    pub fn now() -> Utc {
        Utc { since_epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    /// So many seconds after the beginning of 1970.
    pub fn from_seconds(seconds: u64) -> Utc {
        Utc { since_epoch: Duration::from_secs(seconds) }
    }

    /// Seconds since the beginning of 1970.
    pub fn seconds(self) -> f64 {
        self.since_epoch.as_secs_f64()
    }

    /// `2026-11-25 13:24:01.000`.
    pub fn milliseconds(self) -> String {
        let mut text = self.to_string();
        text.truncate(text.len() - 3);
        text
    }

    /// `2026-11-25T13:24:01.000007`: `isoformat()`, and what oslo.serialization makes of a `datetime`.
    pub fn iso(self) -> String {
        self.to_string().replacen(' ', "T", 1)
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.since_epoch.as_secs();
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:06}", self.since_epoch.subsec_micros())
    }
}

/// The date of the Gregorian calendar so many days after 1970-01-01. Years begin in March here, so that the leap day is the last.
fn date(days: u64) -> (u64, u64, u64) {
    // 719468: days from 0000-03-01 to 1970-01-01; 146097: days of 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_python_writes_them() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00.000000"),
            (951_825_600, "2000-02-29 12:00:00.000000"),
            (1_709_251_200, "2024-03-01 00:00:00.000000"),
            (1_795_389_021, "2026-11-22 23:10:21.000000"),
            (4_107_542_399, "2100-02-28 23:59:59.000000"),
            (4_107_542_400, "2100-03-01 00:00:00.000000"),
        ] {
            assert_eq!(Utc::from_seconds(seconds).to_string(), expected);
        }
        let fraction = Utc { since_epoch: Duration::new(1_795_389_021, 7_999) };
        assert_eq!(fraction.iso(), "2026-11-22T23:10:21.000007");
        assert_eq!(fraction.milliseconds(), "2026-11-22 23:10:21.000");
    }
}
