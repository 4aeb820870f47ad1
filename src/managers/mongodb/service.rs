//! [`service`]: who runs this guest's server. A query router is another program, with a unit of its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8Path;

use super::cluster::Role;
use super::descriptor::MONGODB;
use super::layout::Layout;
use crate::config::Settings;
use crate::error::Result;
use crate::op::Op;
use crate::system::command::{CommandOutput, CommandRunner, CommandSpec};
use crate::system::running::RunningCommand;
use crate::system::service::{self, ServiceControl, UnitState};

/// Names of a query router's unit (Trove's `MONGOS_SERVICE_CANDIDATES`).
static ROUTER: &[&str] = &["mongos"];

/// Control of the server that this guest's role in a cluster asks for: `mongos` for a query router, `mongod` for everybody else.
pub fn service(layout: &Layout, settings: &Settings, commands: &Arc<dyn CommandRunner>) -> Arc<dyn ServiceControl> {
    let server = service::build(settings, MONGODB.services, layout.server_command(), Arc::clone(commands));
    let router = service::build(settings, ROUTER, layout.router_command(), Arc::clone(commands));
    Arc::new(OfRole { layout: layout.clone(), server, router })
}

#[derive(Debug)]
struct OfRole {
    layout: Layout,
    server: Arc<dyn ServiceControl>,
    router: Arc<dyn ServiceControl>,
}

impl OfRole {
    /// The role is in the configuration, which `prepare` writes.
    fn current(&self) -> &dyn ServiceControl {
        let is_router = Role::of_guest(&self.layout).unwrap_or_else(|error| {
            tracing::warn!(%error, "the guest's role in a cluster cannot be read");
            None
        });
        if matches!(is_router, Some(Role::QueryRouter)) { &*self.router } else { &*self.server }
    }
}

#[async_trait]
impl ServiceControl for OfRole {
    async fn start(&self, op: &Op, wait: Duration) -> Result<()> {
        self.current().start(op, wait).await
    }

    async fn stop(&self, op: &Op, wait: Duration) -> Result<()> {
        self.current().stop(op, wait).await
    }

    async fn restart(&self, op: &Op, wait: Duration) -> Result<()> {
        self.current().restart(op, wait).await
    }

    async fn keep_stopped(&self, op: &Op) -> Result<()> {
        self.current().keep_stopped(op).await
    }

    async fn set_enabled(&self, op: &Op, enabled: bool) -> Result<()> {
        self.current().set_enabled(op, enabled).await
    }

    async fn state(&self, op: &Op) -> Result<UnitState> {
        self.current().state(op).await
    }

    async fn exec(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        self.current().exec(op, command).await
    }

    async fn spawn(&self, op: &Op, command: CommandSpec) -> Result<RunningCommand> {
        self.current().spawn(op, command).await
    }

    fn brings_its_own_programs(&self) -> bool {
        self.server.brings_its_own_programs()
    }

    async fn shares(&self, op: &Op, directory: &Utf8Path) -> Result<bool> {
        self.current().shares(op, directory).await
    }

    async fn recent_output(&self, op: &Op) -> Option<String> {
        self.current().recent_output(op).await
    }

    async fn agent_starts(&self, op: &Op) {
        self.current().agent_starts(op).await;
    }

    async fn agent_stops(&self, op: &Op) {
        self.current().agent_stops(op).await;
    }
}
