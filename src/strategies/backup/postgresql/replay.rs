//! [`Replay`]: what of a dump goes to the server that takes it back.

use bytes::Bytes;

use crate::error::{Error, Result};

/// The first words of a dump, of any version.
const BEGINNING: &[u8] = b"--\n-- PostgreSQL database cluster dump\n--\n";
/// The end of the roles: each database begins so.
const CONNECT: &[u8] = b"\\connect ";
/// What a dump has to say of the role that loads it, which is there already.
const CREATE: &[u8] = b"CREATE ROLE postgres;\n";
const ALTER: &[u8] = b"ALTER ROLE postgres WITH ";
/// Up to the first database there are roles and tablespaces.
const LONGEST: usize = 256 << 20;

/// Leaves out of a dump what its loading would stumble over: that the role `postgres` be made, or lose what it needs to load the rest (Train's agent had
/// taken that away).
#[derive(Debug, Default)]
pub struct Replay {
    begun: bool,
    in_databases: bool,
    held: Vec<u8>,
}

fn is_left_out(line: &[u8]) -> bool {
    let has = |word: &[u8]| line.windows(word.len()).any(|found| found == word);
    line == CREATE || line.starts_with(ALTER) && (has(b" NOSUPERUSER ") || has(b" NOLOGIN "))
}

impl Replay {
    /// The next bytes of the dump; returns what the server is to get.
    ///
    /// # Errors
    /// This is no dump of `pg_dumpall`.
    pub fn pass(&mut self, bytes: Bytes) -> Result<Bytes> {
        if self.in_databases {
            return Ok(bytes);
        }
        self.held.extend_from_slice(&bytes);
        if !self.begun {
            let known = self.held.len().min(BEGINNING.len());
            if self.held[..known] != BEGINNING[..known] || self.held.len() > LONGEST {
                return Err(no_dump("it does not begin as one"));
            }
            self.begun = known == BEGINNING.len();
        }
        let mut passed = Vec::with_capacity(self.held.len());
        let mut rest = self.held.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n').filter(|_| self.begun) {
            let (line, after) = rest.split_at(end + 1);
            if line.starts_with(CONNECT) {
                self.in_databases = true;
                break;
            }
            if !is_left_out(line) {
                passed.extend_from_slice(line);
            }
            rest = after;
        }
        let rest = rest.to_vec();
        if self.in_databases {
            passed.extend_from_slice(&rest);
            self.held = Vec::new();
        } else {
            self.held = rest;
        }
        Ok(passed.into())
    }

    /// To be asked at the end.
    ///
    /// # Errors
    /// There was no database in it.
    pub fn end(&self) -> Result<()> {
        if self.in_databases { Ok(()) } else { Err(no_dump("there is no database in it")) }
    }
}

fn no_dump(why: &str) -> Error {
    Error::Storage { action: "load the dump".into(), reason: format!("this is no dump of pg_dumpall: {why}"), transient: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DUMP: &str = "--\n-- PostgreSQL database cluster dump\n--\n\nCREATE ROLE os_admin;\nCREATE ROLE postgres;\n\
        ALTER ROLE postgres WITH NOSUPERUSER INHERIT NOLOGIN;\nALTER ROLE u WITH NOSUPERUSER INHERIT;\n\\connect template1\nCREATE ROLE postgres;\nx\n";
    const PASSED: &str = "--\n-- PostgreSQL database cluster dump\n--\n\nCREATE ROLE os_admin;\n\
        ALTER ROLE u WITH NOSUPERUSER INHERIT;\n\\connect template1\nCREATE ROLE postgres;\nx\n";

    proptest! {
        #[test]
        fn what_stumbles_is_left_out_however_the_dump_is_cut(cuts in proptest::collection::vec(1_usize..40, 0..40)) {
            let (mut replay, mut rest, mut passed) = (Replay::default(), DUMP.as_bytes(), Vec::new());
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                passed.extend_from_slice(&replay.pass(Bytes::copy_from_slice(piece)).unwrap());
                rest = after;
            }
            replay.end().unwrap();
            prop_assert_eq!(String::from_utf8(passed).unwrap(), PASSED);
        }
    }

    #[test]
    fn other_text_is_refused() {
        assert!(Replay::default().pass(Bytes::from_static(b"-- MariaDB dump 10.19\n")).is_err());
        assert!(Replay::default().end().is_err());
    }
}
