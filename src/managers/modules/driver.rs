//! [`ModuleDriver`]: what makes something of a module's contents.

use async_trait::async_trait;
use camino::Utf8Path;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Result, ResultExt};
use crate::op::Op;

/// What came of a driver's work: the status and the message of the module's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// It is done.
    pub(super) done: bool,
    /// For whoever asked.
    pub(super) message: String,
}

impl Outcome {
    pub(super) fn done(message: impl Into<String>) -> Self {
        Outcome { done: true, message: message.into() }
    }

    pub(super) fn failed(message: impl Into<String>) -> Self {
        Outcome { done: false, message: message.into() }
    }

    /// A failed step, as the decorator of Trove's drivers words it (module/drivers/module_driver.py: `output`).
    pub(super) fn of(result: Result<()>, done: &str, failed: &str) -> Self {
        match result {
            Ok(()) => Outcome::done(done),
            Err(error) => Outcome::failed(format!("{failed}: {error}")),
        }
    }
}

/// A driver. Both methods must be repeatable.
#[async_trait]
pub(super) trait ModuleDriver: Send + Sync {
    /// Does what the contents say.
    async fn apply(&self, op: &Op, contents: &Utf8Path) -> Outcome;
    /// Undoes it.
    async fn remove(&self, op: &Op, contents: &Utf8Path) -> Outcome;
}

/// The value of a key of `key=value` lines, whatever its case; `#` begins a comment (trove/common/stream_codecs.py: `KeyValueCodec`).
pub(super) fn value(contents: &Utf8Path, key: &str) -> Result<Option<SecretString>> {
    let text = SecretString::from(std::fs::read_to_string(contents).action(format!("read {contents}"))?);
    for line in text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once('=').ok_or_else(|| Error::invalid("the contents have a line that is not 'key=value'"))?;
        if name.trim().eq_ignore_ascii_case(key) {
            return Ok(Some(SecretString::from(value.split('#').next().unwrap_or_default())));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_trove_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(folder.path().join("contents.dat")).unwrap();
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            value(&path, "message").map(|found| found.map(|found| found.expose_secret().to_owned()))
        };
        assert_eq!(read("# no\n\n Message=a = b # c\r\n").unwrap().as_deref(), Some("a = b "));
        assert_eq!(read("other=1\n").unwrap(), None);
        assert!(read("planted secret\n").is_err_and(|error| !error.to_string().contains("planted")));
    }
}
