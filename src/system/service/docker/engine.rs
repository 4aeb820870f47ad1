//! The `docker` command line, and what it says of a container.

use std::collections::HashMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::{CommandOutput, CommandRunner, CommandSpec};
use crate::system::running::RunningCommand;
use crate::system::service::UnitState;

/// Exit code of a process ended by SIGTERM: how a Java server answers an orderly stop.
const ENDED_BY_TERM: i64 = 143;

/// `docker container inspect`, as far as the agent looks.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    state: State,
    pub(super) config: Config,
    host_config: HostConfig,
    #[serde(default)]
    mounts: Vec<Mount>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mount {
    /// Empty for what is in memory only.
    #[serde(default)]
    source: Utf8PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    pid: i32,
    exit_code: i64,
    #[serde(default)]
    error: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Config {
    pub(super) image: String,
    #[serde(default)]
    pub(super) labels: Option<HashMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    restart_policy: RestartPolicy,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicy {
    name: String,
}

impl Container {
    pub(super) fn state(&self) -> UnitState {
        match self.state.status.as_str() {
            "running" | "paused" => UnitState::Running { pid: Some(self.state.pid).filter(|pid| *pid > 0) },
            "created" => UnitState::Stopped,
            "exited" if self.state.error.is_empty() && matches!(self.state.exit_code, 0 | ENDED_BY_TERM) => UnitState::Stopped,
            // "restarting" is a crash the engine answers; "dead" one it could not clean up.
            _ => UnitState::Failed,
        }
    }

    /// How it ended, for an error.
    pub(super) fn ending(&self) -> String {
        let reason = if self.state.error.is_empty() { String::new() } else { format!(", {}", self.state.error) };
        format!("{}, exit code {}{reason}", self.state.status, self.state.exit_code)
    }

    /// True when the engine starts it by itself.
    pub(super) fn is_enabled(&self) -> bool {
        !matches!(self.host_config.restart_policy.name.as_str(), "" | "no")
    }

    /// True when the container has this directory of the host, at whichever path of its own.
    pub(super) fn shares(&self, directory: &Utf8Path) -> bool {
        let real = |path: &Utf8Path| path.canonicalize_utf8().unwrap_or_else(|_| path.to_owned());
        let directory = real(directory);
        self.mounts.iter().any(|mount| !mount.source.as_str().is_empty() && directory.starts_with(real(&mount.source)))
    }

    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.config.labels.as_ref()?.get(name).map(String::as_str)
    }
}

fn no_docker(error: Error) -> Error {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::guest("there is no docker program on this machine: install it, or set service_control to systemd or process")
        }
        other => other,
    }
}

/// Runs the command line.
#[derive(Debug)]
pub(super) struct Engine {
    commands: Arc<dyn CommandRunner>,
}

impl Engine {
    pub(super) fn new(commands: Arc<dyn CommandRunner>) -> Self {
        Engine { commands }
    }

    /// Runs a `docker` command.
    pub(super) async fn run(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        self.commands.run(op, command).await.map_err(no_docker)
    }

    /// Starts a `docker` command.
    pub(super) fn spawn(&self, command: CommandSpec) -> Result<RunningCommand> {
        self.commands.spawn(command).map_err(no_docker)
    }

    /// The container, or `None` when the engine knows none of that name.
    pub(super) async fn inspect(&self, op: &Op, name: &str) -> Result<Option<Container>> {
        let inspect = CommandSpec::new("docker").args(["container", "inspect", "--", name]).accept(&[1]);
        let inspected = self.run(op, inspect).await?;
        if inspected.code != 0 {
            // Exit code 1 means both "no such container" and "no such engine".
            self.reach(op).await?;
            return Ok(None);
        }
        let containers: Vec<Container> =
            serde_json::from_str(&inspected.stdout).map_err(std::io::Error::from).action(format!("read what docker says of {name}"))?;
        Ok(containers.into_iter().next())
    }

    async fn reach(&self, op: &Op) -> Result<()> {
        let version = CommandSpec::new("docker").args(["version", "--format", "{{.Server.Version}}"]);
        match self.run(op, version).await {
            Err(Error::Command { stderr, .. }) => Err(Error::guest(format!(
                "the docker engine cannot be reached: {stderr}; start it (systemctl start docker), or point DOCKER_HOST at it"
            ))),
            other => other.map(|_| ()),
        }
    }

    /// The end of what the container's server wrote.
    pub(super) async fn logs(&self, op: &Op, name: &str) -> String {
        match self.run(op, CommandSpec::new("docker").args(["logs", "--tail", "20", "--", name])).await {
            Ok(logs) => {
                let lines = logs.stdout.lines().chain(logs.stderr.lines()).map(str::trim_end).filter(|line| !line.is_empty());
                lines.collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("no log: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(status: &str, exit_code: i64, error: &str) -> Container {
        let text = serde_json::json!({
            "Id": "3e1f", "State": {"Status": status, "Running": false, "Pid": 41, "ExitCode": exit_code, "Error": error},
            "Config": {"Image": "mariadb:10.11", "Labels": null}, "HostConfig": {"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}}
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn states_of_a_container() {
        assert_eq!(container("running", 0, "").state(), UnitState::Running { pid: Some(41) });
        assert_eq!(container("created", 0, "").state(), UnitState::Stopped);
        assert_eq!(container("exited", 0, "").state(), UnitState::Stopped);
        assert_eq!(container("exited", 143, "").state(), UnitState::Stopped);
        assert_eq!(container("exited", 1, "").state(), UnitState::Failed);
        assert_eq!(container("exited", 137, "").state(), UnitState::Failed);
        assert_eq!(container("exited", 0, "mount failed").state(), UnitState::Failed);
        assert_eq!(container("restarting", 1, "").state(), UnitState::Failed);
        assert!(!container("exited", 0, "").is_enabled());
    }

    #[test]
    fn mounted_directories_are_shared() {
        let mounts = serde_json::json!([{"Type": "bind", "Source": "/no/such/run", "Destination": "/run/mysqld"}, {"Type": "tmpfs"}]);
        let container = Container { mounts: serde_json::from_value(mounts).unwrap(), ..container("running", 0, "") };
        assert!(container.shares("/no/such/run".into()) && container.shares("/no/such/run/deeper".into()));
        assert!(!container.shares("/no/such/runs".into()) && !container.shares("/no/such".into()));
    }
}
