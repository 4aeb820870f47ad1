//! The ping driver: answers with what the contents say.

use async_trait::async_trait;
use camino::Utf8Path;
use secrecy::ExposeSecret;

use super::driver::{ModuleDriver, Outcome, value};
use crate::op::Op;

/// trove/guestagent/module/drivers/ping_driver.py.
#[derive(Debug)]
pub(super) struct Ping;

#[async_trait]
impl ModuleDriver for Ping {
    async fn apply(&self, _op: &Op, contents: &Utf8Path) -> Outcome {
        match value(contents, "message") {
            Ok(Some(message)) => Outcome::done(message.expose_secret()),
            Ok(None) => Outcome::failed("Message not found in contents file"),
            Err(error) => Outcome::failed(format!("Could not extract ping message: {error}")),
        }
    }

    async fn remove(&self, _op: &Op, _contents: &Utf8Path) -> Outcome {
        Outcome::done("")
    }
}
