//! The pieces of a backup: their names, and the checksum of the whole.

use md5::{Digest, Md5};

use super::ObjectName;

/// What stands between the prefix of segments and the number of a manifest of a part of them.
const PART: char = 'm';

/// MD5 of hexadecimal MD5s in a row: what Swift has for the entity tag of a large object.
pub(super) fn checksum<'a>(tags: impl IntoIterator<Item = &'a str>) -> String {
    let mut sum = Md5::new();
    tags.into_iter().for_each(|tag| sum.update(tag.as_bytes()));
    format!("{:x}", sum.finalize())
}

/// Name of the manifest of a part of the segments, where there are too many for one.
pub(super) fn part_manifest(name: &ObjectName, index: usize) -> ObjectName {
    ObjectName::new(&name.container, format!("{}{PART}{index:08}", name.segment_prefix()))
}

/// Whether an object is a segment of `name`, or a manifest of some of them, and nobody else's.
pub(super) fn is_piece(name: &ObjectName, object: &str) -> bool {
    let number = object.strip_prefix(&name.segment_prefix()).map(|rest| rest.strip_prefix(PART).unwrap_or(rest));
    number.is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_neighbours() {
        let name = ObjectName::new("c", "b1.xbstream.gz.enc");
        for own in ["b1_00000000", "b1_00000123", "b1_m00000001"] {
            assert!(is_piece(&name, own), "{own}");
        }
        for other in [
            "b1",
            "b1_",
            "b10_00000000",
            "b1.xbstream.gz.enc",
            "b1_0000000",
            "b1_00000000.gz",
            "b1_000000001",
            "b1_x00000000",
            "b1_old_00000000",
        ] {
            assert!(!is_piece(&name, other), "{other}");
        }
        assert!(is_piece(&name, &part_manifest(&name, 3).object));
    }

    #[test]
    fn the_checksum_is_that_of_the_hexadecimal_digits() {
        // printf '%s%s' $(printf a | md5sum | cut -c1-32) $(printf b | md5sum | cut -c1-32) | md5sum
        let tags = ["0cc175b9c0f1b6a831c399e269772661", "92eb5ffee6ae2fec3ad71c777531578f"];
        assert_eq!(checksum(tags), "3bc22fb7aaebe9c8c5d7de312b876bb8");
    }
}
