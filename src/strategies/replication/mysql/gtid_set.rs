//! [`GtidSet`]: a set of MySQL's transaction ids, as `gtid_executed` has it.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};

/// Numbers of one origin: closed intervals, ascending, neither touching nor overlapping.
type Intervals = Vec<(u64, u64)>;

/// Transaction ids of MySQL, by origin: a server's UUID, or `UUID:tag` (8.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GtidSet(BTreeMap<String, Intervals>);

impl GtidSet {
    /// Reads `UUID:1-5:7,UUID:tag:1`, blanks and line breaks anywhere.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn parse(text: &str) -> Result<GtidSet> {
        let bad = || Error::invalid(format!("'{}' is not a set of GTIDs", text.escape_debug()));
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let mut set = GtidSet::default();
        for part in compact.split(',').filter(|part| !part.is_empty()) {
            let mut fields = part.split(':');
            let uuid = fields.next().and_then(|text| uuid::Uuid::parse_str(text).ok()).ok_or_else(bad)?.to_string();
            let (mut origin, mut any) = (uuid.clone(), false);
            for field in fields {
                if field.starts_with(|c: char| c.is_ascii_digit()) {
                    let (first, last) = field.split_once('-').unwrap_or((field, field));
                    let (first, last) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
                    if first == 0 || first > last {
                        return Err(bad());
                    }
                    set.add(&origin, (first, last));
                    any = true;
                } else if field.is_empty() || !field.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    return Err(bad());
                } else {
                    origin = format!("{uuid}:{}", field.to_ascii_lowercase());
                }
            }
            if !any {
                return Err(bad());
            }
        }
        Ok(set)
    }

    fn add(&mut self, origin: &str, interval: (u64, u64)) {
        let all = self.0.entry(origin.to_owned()).or_default();
        all.push(interval);
        all.sort_unstable();
        let mut merged: Intervals = Vec::with_capacity(all.len());
        for &(first, last) in all.iter() {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        *all = merged;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ids.
    pub(super) fn count(&self) -> u64 {
        self.0.values().flatten().map(|(first, last)| last - first + 1).sum()
    }

    /// The greatest number of an origin.
    pub(super) fn last(&self, origin: &str) -> u64 {
        self.0.get(&origin.to_ascii_lowercase()).and_then(|all| all.last()).map_or(0, |(_, last)| *last)
    }

    /// What came from a server, tagged or not.
    #[must_use]
    pub(super) fn of(&self, uuid: &str) -> GtidSet {
        let uuid = uuid.to_ascii_lowercase();
        let from = |origin: &str| origin.split(':').next() == Some(&uuid);
        GtidSet(self.0.iter().filter(|(origin, _)| from(origin)).map(|(origin, all)| (origin.clone(), all.clone())).collect())
    }

    /// Both.
    #[must_use]
    pub(super) fn union(mut self, other: &GtidSet) -> GtidSet {
        for (origin, all) in &other.0 {
            for interval in all {
                self.add(origin, *interval);
            }
        }
        self
    }

    /// What is here and not there.
    #[must_use]
    pub(super) fn minus(&self, other: &GtidSet) -> GtidSet {
        let mut rest = GtidSet::default();
        for (origin, all) in &self.0 {
            let gone = other.0.get(origin).map_or(&[][..], Vec::as_slice);
            for &(first, last) in all {
                let mut next = Some(first);
                for &(from, to) in gone.iter().filter(|(from, to)| *to >= first && *from <= last) {
                    if let Some(start) = next.filter(|start| *start < from) {
                        rest.add(origin, (start, from - 1));
                    }
                    next = to.checked_add(1);
                }
                if let Some(start) = next.filter(|start| *start <= last) {
                    rest.add(origin, (start, last));
                }
            }
        }
        rest
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (origin, all)) in self.0.iter().enumerate() {
            write!(f, "{}{origin}", if index == 0 { "" } else { "," })?;
            for (first, last) in all {
                if first == last { write!(f, ":{first}")? } else { write!(f, ":{first}-{last}")? }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4d2b1c30-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        GtidSet::parse(text).unwrap()
    }

    #[test]
    fn every_form_of_a_set_is_read() {
        let many = set(&format!("{}:1-5:7,\n{B}:1-3,{B}:dump:4-6", A.to_uppercase()));
        assert_eq!(many.to_string(), format!("{A}:1-5:7,{B}:1-3,{B}:dump:4-6"));
        assert_eq!((many.count(), many.last(A), many.last(B), many.last("x")), (12, 7, 3, 0));
        assert_eq!(many.of(B).to_string(), format!("{B}:1-3,{B}:dump:4-6"));
        assert_eq!(set(&format!("{A}:4-9:1-3")).to_string(), format!("{A}:1-9"));
        assert!(set("").is_empty() && set(" \n").is_empty());
        for bad in ["x:1", A, "mysql-bin.000001:4", &format!("{A}:5-1"), &format!("{A}:0"), &format!("{A}:1:"), &format!("{A}:1-'")] {
            assert!(GtidSet::parse(bad).is_err(), "{bad}");
        }
    }

    fn build(numbers: &[(bool, u64)]) -> GtidSet {
        numbers.iter().fold(GtidSet::default(), |mut set, (other, number)| {
            set.add(if *other { B } else { A }, (*number, *number));
            set
        })
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_sets(one in prop::collection::vec((any::<bool>(), 1_u64..40), 0..60), two in prop::collection::vec((any::<bool>(), 1_u64..40), 0..60)) {
            let (first, second) = (build(&one), build(&two));
            prop_assert_eq!(GtidSet::parse(&first.to_string()).unwrap(), first.clone());
            let (one, two): (BTreeSet<_>, BTreeSet<_>) = (one.into_iter().collect(), two.into_iter().collect());
            let minus: Vec<_> = one.difference(&two).copied().collect();
            let union: Vec<_> = one.union(&two).copied().collect();
            prop_assert_eq!(first.minus(&second), build(&minus));
            prop_assert_eq!(first.clone().union(&second), build(&union));
            prop_assert_eq!(first.count(), one.len() as u64);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "[0-9a-f:,-]{0,80}") {
            GtidSet::parse(&text).ok();
        }
    }
}
