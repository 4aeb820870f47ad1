//! MD5, which Swift's checksums are made of.

use md5::{Digest, Md5};

use crate::strategies::storage::Segment;

/// MD5 of bytes that come in pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct Checksum(Md5);

impl Checksum {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// 32 lower-case hexadecimal digits.
    pub(super) fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Checksum of a large object: MD5 of its segments' MD5s, hexadecimal, in a row.
pub(super) fn of_segments(segments: &[Segment]) -> String {
    let mut whole = Checksum::default();
    segments.iter().for_each(|segment| whole.update(segment.md5.as_bytes()));
    whole.finish()
}

/// Whether `checksum` is one of these segments as one object: large, or a lone segment that is the object itself.
pub(super) fn matches(checksum: &str, segments: &[Segment]) -> bool {
    checksum == of_segments(segments) || matches!(segments, [lone] if lone.md5 == checksum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::storage::ObjectName;

    #[test]
    fn checksums_are_those_of_swift() {
        let mut sum = Checksum::default();
        sum.update(b"a");
        sum.update(b"bc");
        let md5 = sum.finish();
        assert_eq!(md5, "900150983cd24fb0d6963f7d28e17f72", "RFC 1321, A.5");
        let lone = Segment { name: ObjectName::new("c", "o"), size: 3, md5: md5.clone() };
        assert!(matches(&md5, std::slice::from_ref(&lone)));
        // printf 900150983cd24fb0d6963f7d28e17f72 | md5sum
        assert!(matches("ec0405c5aef93e771cd80e0db180b88b", std::slice::from_ref(&lone)));
        assert!(!matches(&md5, &[lone.clone(), lone]));
    }
}
