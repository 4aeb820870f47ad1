//! [`Docker`]: one container, named by `service_name`, created from `docker_image` when there is none.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};

use super::engine::{Container, Engine};
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::{CommandOutput, CommandRunner, CommandSpec};
use crate::system::leftovers::Mark;
use crate::system::running::RunningCommand;
use crate::system::service::control::stays_up;
use crate::system::service::{ServerCommand, ServiceControl, UnitState};

/// Name of the container unless `service_name` says otherwise.
pub(in crate::system::service) const DEFAULT_CONTAINER: &str = "database";
/// Marks a container the agent created; the value stands for how. One made by somebody else is only started and stopped.
const LABEL: &str = "org.openstack.trove.guestagent.command";
/// Pulling an image may take this long.
const PULL: Duration = Duration::from_secs(600);
/// `/dev/shm` of the container: PostgreSQL's parallel queries need more than the engine's 64 MiB.
const SHM_SIZE: &str = "1g";

/// Which container is the database.
#[derive(Debug, Clone)]
pub struct DockerContainer {
    /// Its name.
    pub name: String,
    /// `docker_image`: what to create it from when there is none.
    pub image: Option<String>,
    /// How long the engine waits for the server to end when the guest shuts down.
    pub stop_wait: Duration,
}

/// Service control `docker`.
#[derive(Debug)]
pub struct Docker {
    container: DockerContainer,
    server: ServerCommand,
    engine: Engine,
}

/// Says what was being done; a deadline stays a deadline.
fn during(action: String) -> impl FnOnce(Error) -> Error {
    move |error| match error {
        Error::Timeout { after, detail, .. } => Error::Timeout { action, after, detail },
        other => Error::During { action, source: Box::new(other) },
    }
}

fn docker() -> CommandSpec {
    CommandSpec::new("docker")
}

impl Docker {
    /// `server` is the command of a container that has to be created.
    pub fn new(container: DockerContainer, server: ServerCommand, commands: Arc<dyn CommandRunner>) -> Self {
        Docker { container, server, engine: Engine::new(commands) }
    }

    fn name(&self) -> &str {
        &self.container.name
    }

    async fn inspect(&self, op: &Op) -> Result<Option<Container>> {
        self.engine.inspect(op, self.name()).await
    }

    fn image(&self) -> Result<&str> {
        self.container.image.as_deref().ok_or_else(|| {
            Error::guest(format!(
                "there is no container '{}' and no image to create it from: create it, or set docker_image (or service_name)",
                self.name()
            ))
        })
    }

    /// Stands for image and command: a container with another is out of date.
    fn fingerprint(&self, image: &str) -> String {
        let mut hasher = DefaultHasher::new();
        (image, &self.server).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// `--volume` for each shared directory, same path on both sides.
    fn volumes(&self) -> Result<Vec<String>> {
        let mut paths: Vec<&Utf8PathBuf> = self.server.mounts.iter().chain(&self.server.run_dirs).collect();
        paths.sort();
        paths.dedup();
        let volume = |path: &Utf8PathBuf| {
            if path.as_str().contains(':') {
                return Err(Error::guest(format!("docker cannot mount {path}: a path with a colon")));
            }
            std::fs::create_dir_all(path).action(format!("create {path}"))?;
            Ok(format!("--volume={path}:{path}"))
        };
        paths.into_iter().map(volume).collect()
    }

    /// A container for one program, with the files of the server.
    async fn one_off(&self, op: &Op, existing: Option<&Container>, command: CommandSpec) -> Result<CommandOutput> {
        let (mark, input) = (Mark::new(), command.has_stdin());
        self.engine.run(op, self.one_off_command(existing, &mark, input, command)?).await
    }

    fn one_off_command(&self, existing: Option<&Container>, mark: &Mark, input: bool, command: CommandSpec) -> Result<CommandSpec> {
        let mut args = vec!["run".to_owned(), "--rm".to_owned(), "--network=host".to_owned(), format!("--env={}", mark.assignment())];
        args.extend(command.env_names().map(|name| format!("--env={name}")));
        args.extend(command.user().map(|user| format!("--user={user}")));
        if input {
            args.push("--interactive".to_owned());
        }
        let image = match existing {
            Some(container) => {
                args.push(format!("--volumes-from={}", self.name()));
                container.config.image.as_str()
            }
            None => {
                args.extend(self.volumes()?);
                self.image()?
            }
        };
        // `docker run [options] --entrypoint=PROGRAM IMAGE ARGS`: an image's own entry point would do things of its own.
        let program = command.argv().first().copied().unwrap_or_default().to_owned();
        args.extend([format!("--entrypoint={program}"), image.to_owned()]);
        Ok(command.as_agent().replace_program("docker", args))
    }

    fn exec_command(&self, mark: &Mark, input: bool, command: CommandSpec) -> CommandSpec {
        let mut args = vec!["exec".to_owned(), format!("--env={}", mark.assignment())];
        args.extend(command.env_names().map(|name| format!("--env={name}")));
        args.extend(command.user().map(|user| format!("--user={user}")));
        if input {
            args.push("--interactive".to_owned());
        }
        args.push(self.name().to_owned());
        command.as_agent().wrapped_by("docker", args)
    }

    /// The candidate that is in the image.
    async fn program(&self, op: &Op, image: &str) -> Result<&Utf8PathBuf> {
        if let [only] = self.server.programs.as_slice() {
            return Ok(only);
        }
        for program in &self.server.programs {
            let test = docker().args(["run", "--rm", "--network=none", "--entrypoint=/usr/bin/test", image, "-x", program.as_str()]);
            if self.engine.run(op, test.accept(&[1]).timeout(PULL)).await?.code == 0 {
                return Ok(program);
            }
        }
        let programs: Vec<&str> = self.server.programs.iter().map(|path| path.as_str()).collect();
        Err(Error::guest(format!("the image {image} has none of {}: is docker_image right?", programs.join(", "))))
    }

    /// Gives the server's directories to the server's account: by the image's account list, not by the host's.
    async fn own_run_dirs(&self, op: &Op, existing: Option<&Container>) -> Result<()> {
        if self.server.run_dirs.is_empty() {
            return Ok(());
        }
        for directory in &self.server.run_dirs {
            std::fs::create_dir_all(directory).action(format!("create {directory}"))?;
        }
        let chown = CommandSpec::new("chown").args(["--", &self.server.user]).args(&self.server.run_dirs).timeout(PULL);
        self.one_off(op, existing, chown).await.action(format!("give the server's directories to {}", self.server.user))?;
        Ok(())
    }

    async fn create(&self, op: &Op, wait: Duration) -> Result<()> {
        let image = self.image()?;
        let program = self.program(op, image).await?;
        self.own_run_dirs(op, None).await?;
        let create = docker()
            .args(["run", "--detach", "--name", self.name(), "--restart=unless-stopped", "--network=host"])
            .arg(format!("--stop-timeout={}", self.container.stop_wait.as_secs()))
            .arg(format!("--shm-size={SHM_SIZE}"))
            .arg(format!("--label={LABEL}={}", self.fingerprint(image)))
            .args(self.volumes()?)
            .args(self.server.started_as_user.then(|| format!("--user={}", self.server.user)))
            .args([&format!("--entrypoint={program}"), image])
            .args(&self.server.args)
            .timeout(PULL.max(wait));
        if let Err(error) = self.engine.run(op, create).await {
            // A container that could not be started would stand in the way of the next attempt.
            self.engine.run(op, docker().args(["rm", "--", self.name()]).accept(&[1])).await?;
            return Err(error).action(format!("create the container {} from {image}", self.name()));
        }
        tracing::info!(container = self.name(), image, "created the database's container");
        Ok(())
    }

    async fn start_existing(&self, op: &Op, container: &Container, wait: Duration) -> Result<()> {
        if let Some(fingerprint) = container.label(LABEL) {
            if let Some(image) = &self.container.image
                && self.fingerprint(image) != fingerprint
            {
                tracing::info!(container = self.name(), image, "replacing a container of another image or command");
                self.engine.run(op, docker().args(["rm", "--force", "--", self.name()])).await?;
                return self.create(op, wait).await;
            }
            // The engine makes missing directories, for root: those in /run after a reboot.
            self.own_run_dirs(op, Some(container)).await?;
        }
        self.engine
            .run(op, docker().args(["start", "--", self.name()]).timeout(wait))
            .await
            .map_err(during(format!("start the container {}", self.name())))?;
        Ok(())
    }
}

#[async_trait]
impl ServiceControl for Docker {
    async fn start(&self, op: &Op, wait: Duration) -> Result<()> {
        match self.inspect(op).await? {
            Some(container) if matches!(container.state(), UnitState::Running { .. }) => return Ok(()),
            Some(container) => self.start_existing(op, &container, wait).await?,
            None => self.create(op, wait).await?,
        }
        if stays_up(op, self).await? {
            return Ok(());
        }
        let ending = self.inspect(op).await?.map_or_else(|| "it is gone".to_owned(), |container| container.ending());
        let said = self.engine.logs(op, self.name()).await;
        // Its restart policy would start it again and again.
        self.engine.run(op, docker().args(["stop", "--", self.name()])).await?;
        Err(Error::guest(format!("the container {} ended at once ({ending}): {said}", self.name())))
    }

    async fn stop(&self, op: &Op, wait: Duration) -> Result<()> {
        if self.inspect(op).await?.is_none() {
            return Ok(());
        }
        // -1: the engine never sends SIGKILL.
        let stop = docker().args(["stop", "-t", "-1", "--", self.name()]).timeout(wait);
        self.engine.run(op, stop).await.map_err(during(format!("stop the container {}", self.name())))?;
        Ok(())
    }

    async fn set_enabled(&self, op: &Op, enabled: bool) -> Result<()> {
        if self.inspect(op).await?.is_none() {
            // It is created enabled, and cannot start before that.
            return self.image().map(|_| ());
        }
        let policy = if enabled { "--restart=unless-stopped" } else { "--restart=no" };
        let update = docker().args(["update", policy, "--", self.name()]);
        self.engine.run(op, update).await.action(format!("set the restart policy of {}", self.name()))?;
        Ok(())
    }

    async fn state(&self, op: &Op) -> Result<UnitState> {
        Ok(self.inspect(op).await?.map_or(UnitState::Missing, |container| container.state()))
    }

    async fn exec(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        let container = self.inspect(op).await?;
        if !container.as_ref().is_some_and(|container| matches!(container.state(), UnitState::Running { .. })) {
            return self.one_off(op, container.as_ref(), command).await;
        }
        let (mark, input) = (Mark::new(), command.has_stdin());
        self.engine.run(op, self.exec_command(&mark, input, command)).await
    }

    async fn spawn(&self, op: &Op, command: CommandSpec) -> Result<RunningCommand> {
        let container = self.inspect(op).await?;
        let mark = Mark::new();
        let command = match &container {
            Some(running) if matches!(running.state(), UnitState::Running { .. }) => self.exec_command(&mark, true, command),
            other => self.one_off_command(other.as_ref(), &mark, true, command)?,
        };
        Ok(self.engine.spawn(command)?.guarded_by(mark))
    }

    fn brings_its_own_programs(&self) -> bool {
        true
    }

    async fn shares(&self, op: &Op, directory: &Utf8Path) -> Result<bool> {
        // One that is yet to be created gets what it needs.
        Ok(self.inspect(op).await?.is_none_or(|container| container.shares(directory)))
    }

    async fn recent_output(&self, op: &Op) -> Option<String> {
        Some(self.engine.logs(op, self.name()).await)
    }

    async fn agent_starts(&self, op: &Op) {
        let start = async {
            match self.inspect(op).await? {
                // After a reboot the engine starts it before its directories in /run are the server's again.
                Some(container) if container.is_enabled() && container.state() == UnitState::Failed => {
                    self.start(op, self.container.stop_wait).await
                }
                _ => Ok(()),
            }
        };
        if let Err(error) = start.await {
            tracing::error!(%error, container = self.name(), "failed to start the database's container with the agent");
        }
    }
}
