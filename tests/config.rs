//! The configuration against the real oslo.config, oslo.messaging and Trove: the same input to both, the same outcome.
//!
//! `TROVE_TEST_PYTHON` names a Python that has them, such as that of a virtual environment with `trove` installed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "config/dialect.rs"]
mod dialect;
#[path = "config/files.rs"]
mod files;
#[path = "config/oracle.rs"]
mod oracle;
#[path = "config/real_options.rs"]
mod real_options;
#[path = "config/url.rs"]
mod url;
