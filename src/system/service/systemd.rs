//! Systemd: to be written.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::control::{ServerCommand, ServiceControl, UnitState};
use crate::config::Settings;
use crate::error::Result;
use crate::op::Op;
use crate::system::command::{CommandOutput, CommandRunner, CommandSpec};

#[derive(Debug)]
pub(super) struct Systemd;

impl Systemd {
    pub(super) fn new(_settings: &Settings, _names: &[&str], _commands: Arc<dyn CommandRunner>) -> Self {
        Systemd
    }
}

#[async_trait]
impl ServiceControl for Systemd {
    async fn start(&self, _op: &Op, _wait: Duration) -> Result<()> {
        unreachable!()
    }
    async fn stop(&self, _op: &Op, _wait: Duration) -> Result<()> {
        unreachable!()
    }
    async fn set_enabled(&self, _op: &Op, _enabled: bool) -> Result<()> {
        unreachable!()
    }
    async fn state(&self, _op: &Op) -> Result<UnitState> {
        unreachable!()
    }
    async fn exec(&self, _op: &Op, _command: CommandSpec) -> Result<CommandOutput> {
        unreachable!()
    }
}
