//! Places in the server's log, and the files they are in (src/include/access/xlog_internal.h).

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// A position in the log: `1A/2B000028`.
pub(super) fn position(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    Some(u64::from(u32::from_str_radix(high, 16).ok()?) << 32 | u64::from(u32::from_str_radix(low, 16).ok()?))
}

/// Name of the file that holds a segment of the log (`XLogFileName`). `None` for a size no segment has.
pub(super) fn file_name(timeline: u32, segment: u64, size: u64) -> Option<String> {
    let per_id = (1_u64 << 32).checked_div(size)?;
    Some(format!("{timeline:08X}{:08X}{:08X}", segment.checked_div(per_id)?, segment.checked_rem(per_id)?))
}

/// Timeline and segment of a file of the log; `None` for another name.
pub(super) fn file_place(name: &str, size: u64) -> Option<(u32, u64)> {
    if !is_segment(name) {
        return None;
    }
    let part = |at: usize| u32::from_str_radix(name.get(at..at + 8)?, 16).ok();
    let per_id = (1_u64 << 32).checked_div(size).filter(|per_id| *per_id > 0)?;
    Some((part(0)?, u64::from(part(8)?) * per_id + u64::from(part(16)?)))
}

/// The timeline a file belongs to: its first eight digits.
pub(super) fn timeline_of(name: &str) -> Option<u32> {
    u32::from_str_radix(name.get(..8)?, 16).ok()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte))
}

/// The name of a segment's file.
pub(super) fn is_segment(name: &str) -> bool {
    is_hex(name, 24)
}

/// A name that files of the log have: of a segment, of a timeline's history, of the note about a base backup.
pub(super) fn is_file_of_log(name: &str) -> bool {
    match name.split_once('.') {
        None => is_segment(name),
        Some((timeline, "history")) => is_hex(timeline, 8),
        Some((segment, rest)) => is_segment(segment) && rest.strip_suffix(".backup").is_some_and(|offset| is_hex(offset, 8)),
    }
}

/// Name of the file with a timeline's history; the first timeline has none.
pub(super) fn history_name(timeline: u32) -> Option<String> {
    (timeline > 1).then(|| format!("{timeline:08X}.history"))
}

/// Which timelines a server has come along: the log goes on in the next one where the one before ends.
#[derive(Debug)]
pub(super) struct History {
    current: u32,
    /// The timelines before, and where each ends.
    before: BTreeMap<u32, u64>,
}

impl History {
    /// Of the text of the current timeline's file (`0000000N.history`): a line for each timeline before, with where it ends.
    pub(super) fn parse(current: u32, text: &str) -> History {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, position(words.next()?)?))
        };
        History { current, before: text.lines().filter_map(line).collect() }
    }

    /// Whether a server that was at this position of this timeline has come to where this one is.
    pub(super) fn has(&self, timeline: u32, position: u64) -> bool {
        timeline == self.current || self.before.get(&timeline).is_some_and(|end| position <= *end)
    }

    /// The newest timeline that has something of a segment: its file has the end of the one before, too.
    fn timeline_of(&self, segment: u64, size: u64) -> u32 {
        let later = |end: &u64| *end / size > segment;
        self.before.iter().find(|(_, end)| later(end)).map_or(self.current, |(timeline, _)| *timeline)
    }

    /// Names of the files that have the log from one segment to another, with the history that leads there. `present` are files and their sizes.
    ///
    /// # Errors
    /// One of them is not there, or is not whole.
    pub(super) fn files(&self, (first, last): (u64, u64), size: u64, present: &BTreeMap<String, u64>) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for segment in first..=last {
            let name = file_name(self.timeline_of(segment, size), segment, size).filter(|name| present.get(name) == Some(&size));
            names.push(name.ok_or_else(|| missing(self.timeline_of(segment, size), segment, size))?);
        }
        names.extend(self.before.keys().chain([&self.current]).filter_map(|timeline| history_name(*timeline)));
        names.retain(|name| is_segment(name) || present.contains_key(name));
        Ok(names)
    }
}

/// A segment is not there.
pub(super) fn missing(timeline: u32, segment: u64, size: u64) -> Error {
    let name = file_name(timeline, segment, size).unwrap_or_default();
    Error::Storage {
        action: "put the log together".into(),
        reason: format!("its segment {name} is missing, or not whole"),
        transient: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 16 << 20;

    #[test]
    fn places_have_names_and_names_have_places() {
        for (timeline, segment, name) in [(1, 1, "000000010000000000000001"), (0xA, 0x2FF, "0000000A00000002000000FF")] {
            assert_eq!(file_name(timeline, segment, SIZE).unwrap(), name);
            assert_eq!(file_place(name, SIZE), Some((timeline, segment)));
        }
        assert_eq!(file_place("00000001000000000000000g", SIZE).or(file_place("1", SIZE)).or(file_place(&"A".repeat(24), 0)), None);
        assert_eq!((position("2/1"), position("2"), position("x/1")), (Some(0x2_0000_0001), None, None));
        for good in ["000000010000000000000001", "00000002.history", "000000010000000000000001.00000028.backup"] {
            assert!(is_file_of_log(good), "{good}");
        }
        for bad in [
            "",
            "x",
            "0000000100000000000000011",
            "00000002.History",
            "000000010000000000000001.partial",
            "archive_status",
            "é".repeat(12).as_str(),
        ] {
            assert!(!is_file_of_log(bad), "{bad}");
        }
    }

    #[test]
    fn a_segment_is_taken_of_the_newest_timeline_that_has_it() {
        let history = History::parse(3, "1\t0/3000100\tno recovery target specified\n\n2\t0/5000000\tx\n");
        assert!(history.has(1, 0x300_0100) && !history.has(1, 0x300_0101) && history.has(3, u64::MAX) && !history.has(4, 0));
        let names = ["000000010000000000000002", "000000020000000000000003", "000000020000000000000004", "000000030000000000000005"];
        let mut present: BTreeMap<String, u64> = names.iter().map(|name| ((*name).to_owned(), SIZE)).collect();
        present.insert("00000003.history".into(), 40);
        let found = history.files((2, 5), SIZE, &present).unwrap();
        assert_eq!(found, [&names[..], &["00000003.history"]].concat());
        present.insert(names[1].into(), 5);
        assert!(history.files((2, 5), SIZE, &present).unwrap_err().to_string().contains(names[1]));
        present.remove(names[1]);
        assert!(history.files((2, 5), SIZE, &present).unwrap_err().to_string().contains(names[1]));
    }
}
