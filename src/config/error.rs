//! What is wrong with the configuration: every mistake of a run, each with its place and what to do.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};

/// Where a value, or a mistake, comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A line of a file, from 1; line 0 is the file as a whole.
    File(Utf8PathBuf, usize),
    /// An environment variable.
    Environment(String),
    /// The command line.
    CommandLine,
    /// The agent's own default.
    Default,
    /// Nowhere: what is required was not found.
    Nowhere,
}

impl Origin {
    pub(super) fn whole_file(path: &Utf8Path) -> Self {
        Origin::File(path.to_owned(), 0)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, 0) => write!(f, "{path}"),
            Origin::File(path, line) => write!(f, "{path}:{line}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::CommandLine => f.write_str("command line"),
            Origin::Default => f.write_str("default"),
            Origin::Nowhere => f.write_str("all sources"),
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct ConfigError {
    /// Where it is.
    pub origin: Origin,
    /// What is wrong and what to do; never a credential.
    pub message: String,
}

impl ConfigError {
    pub(super) fn new(origin: Origin, message: impl Into<String>) -> Self {
        ConfigError { origin, message: message.into() }
    }
}

/// Every mistake of one run. `main` prints it and ends with status 64 (`EX_USAGE`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("1 mistake in the configuration:")?,
            count => write!(f, "{count} mistakes in the configuration:")?,
        }
        for error in &self.0 {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
