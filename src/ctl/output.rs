//! What a command prints: lines, and documents for programs.

use std::io::Write;

use serde::Serialize;

use crate::error::{Error, Result, ResultExt};

/// One line of standard output.
pub(super) fn print(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").action("write to standard output")
}

/// A document in one line. `what` it is, for errors.
pub(super) fn json(what: &str, document: &impl Serialize) -> Result<String> {
    serde_json::to_string(document).map_err(|error| Error::guest(format!("cannot write the {what}: {error}")))
}
