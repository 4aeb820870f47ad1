//! MD5, which Swift's checksums are made of.

use md5::{Digest, Md5};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_swift() {
        let mut sum = Checksum::default();
        sum.update(b"a");
        sum.update(b"bc");
        assert_eq!(sum.finish(), "900150983cd24fb0d6963f7d28e17f72", "RFC 1321, A.5");
    }
}
