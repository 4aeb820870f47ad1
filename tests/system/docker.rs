//! Service control `docker`, on an engine of the test's own.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use trove_guestagent::Result;
use trove_guestagent::op::Op;
use trove_guestagent::system::command::{CommandOutput, CommandRunner, CommandSpec, SystemCommands, spawn_detached};
use trove_guestagent::system::service::{Docker, DockerContainer, ServerCommand, ServiceControl, UnitState};

use super::service_contract::{Server, WAIT, check, running_pid};
use super::support::{CACHE, MOUNTS, mariadb_root, op, scratch, wait_until};

/// Points the command line at one engine.
#[derive(Debug)]
struct Host(String);

#[async_trait]
impl CommandRunner for Host {
    async fn run(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        SystemCommands.run(op, command.env("DOCKER_HOST", &self.0)).await
    }
}

/// A running engine. Images stay in the cache between runs; one run has it at a time.
struct Engine {
    host: Arc<Host>,
    dir: Utf8PathBuf,
    daemon: Child,
    _guard: tempfile::TempDir,
    _lock: File,
}

impl Engine {
    async fn start() -> Self {
        let data = Utf8Path::new(CACHE).join("docker");
        std::fs::create_dir_all(&data).unwrap();
        let lock = File::create(data.join("lock")).unwrap();
        let locked = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
        let (guard, dir) = scratch();
        let host = format!("unix://{dir}/docker.sock");
        // Nobody's firewall or bridges are touched: the containers use the host's network.
        let daemon = CommandSpec::new("dockerd")
            .args(["--data-root", data.join("root").as_str(), "--exec-root", dir.join("exec").as_str()])
            .args(["--pidfile", dir.join("pid").as_str(), "--host", &host])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--log-level=warn"]);
        let daemon = spawn_detached(&daemon, File::create(dir.join("dockerd.log")).unwrap()).unwrap();
        let engine = Engine { host: Arc::new(Host(host)), dir, daemon, _guard: guard, _lock: locked };
        let version = || CommandSpec::new("docker").args(["version", "--format", "{{.Server.Version}}"]);
        wait_until("the engine answers", Duration::from_secs(60), async || engine.host.run(&op(), version()).await.is_ok()).await;
        engine
    }

    async fn docker(&self, args: &[&str]) -> Result<CommandOutput> {
        self.host.run(&op(), CommandSpec::new("docker").args(args).timeout(Duration::from_secs(300))).await
    }

    /// The base root as an image, imported once per content.
    async fn image(&self) -> String {
        let root = mariadb_root();
        let mut hasher = DefaultHasher::new();
        std::fs::read(root.join("var/lib/dpkg/status")).unwrap().hash(&mut hasher);
        let name = format!("trove-test-mariadb:{:016x}", hasher.finish());
        if self.docker(&["image", "inspect", &name]).await.is_err() {
            let archive = self.dir.join("image.tar");
            let pack = CommandSpec::new("tar").args(["-C", root.as_str(), "-cf", archive.as_str(), "."]).timeout(Duration::from_secs(300));
            SystemCommands.run(&op(), pack).await.unwrap();
            self.docker(&["import", archive.as_str(), &name]).await.unwrap();
            std::fs::remove_file(archive).unwrap();
        }
        name
    }

    async fn stop(mut self) {
        kill(Pid::from_raw(self.daemon.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
        tokio::time::timeout(Duration::from_secs(60), self.daemon.wait()).await.expect("the engine stops").unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(pid) = self.daemon.id() {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).ok();
        }
        // The host's network namespace, which the engine leaves mounted.
        let namespace = self.dir.join("exec/netns/default");
        nix::mount::umount2(namespace.as_std_path(), nix::mount::MntFlags::MNT_DETACH).ok();
    }
}

fn service(engine: &Engine, image: Option<&str>, server: &ServerCommand) -> Docker {
    let container = DockerContainer { name: "trove-test".to_owned(), image: image.map(str::to_owned), stop_wait: WAIT };
    Docker::new(container, server.clone(), engine.host.clone())
}

#[tokio::test]
async fn the_contract_in_a_container() {
    // Not waited for in the lock's queue: a test that has one volume takes it again for the next.
    let mut alone = None;
    wait_until("no volume of another test", WAIT, async || {
        alone = MOUNTS.try_write().ok();
        alone.is_some()
    })
    .await;
    let engine = Engine::start().await;
    let image = engine.image().await;
    // What an earlier run that was killed left.
    engine.docker(&["rm", "--force", "trove-test"]).await.ok();
    let (_dir, dir) = scratch();
    let mut server = Server::below(&dir);

    nothing_to_create_it_from(&engine, &server).await;
    let docker = service(&engine, Some(&image), &server.command);
    assert!(docker.brings_its_own_programs());
    assert_eq!(docker.state(&op()).await.unwrap(), UnitState::Missing);
    docker.stop(&op(), WAIT).await.unwrap();
    let chown = CommandSpec::new("chown").args(["mysql", server.dir.join("data").as_str()]);
    docker.exec(&op(), chown).await.unwrap();
    server.install(&docker).await;
    check(&docker, &server).await;

    // The restart policy is what is enabled and disabled.
    let policy = async || engine.docker(&["inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", "trove-test"]).await.unwrap().stdout;
    assert_eq!(policy().await.trim(), "unless-stopped");
    docker.set_enabled(&op(), false).await.unwrap();
    assert_eq!(policy().await.trim(), "no");
    // Without a restart of its own, a crash stays a failure; the agent's start repairs only what is enabled.
    docker.start(&op(), WAIT).await.unwrap();
    kill(Pid::from_raw(running_pid(&docker).await), Signal::SIGKILL).unwrap();
    wait_until("it failed", WAIT, async || docker.state(&op()).await.unwrap() == UnitState::Failed).await;
    docker.agent_starts(&op()).await;
    assert_eq!(docker.state(&op()).await.unwrap(), UnitState::Failed);
    docker.set_enabled(&op(), true).await.unwrap();
    docker.agent_starts(&op()).await;
    running_pid(&docker).await;
    docker.stop(&op(), WAIT).await.unwrap();

    // Another command replaces the container; the data stays.
    server.command.args.push("--max-connections=17".to_owned());
    let changed = service(&engine, Some(&image), &server.command);
    changed.start(&op(), WAIT).await.unwrap();
    let arguments = engine.docker(&["inspect", "--format", "{{join .Args \" \"}}", "trove-test"]).await.unwrap().stdout;
    assert!(arguments.contains("--max-connections=17"), "{arguments}");
    changed.stop(&op(), WAIT).await.unwrap();
    engine.docker(&["rm", "trove-test"]).await.unwrap();
    a_container_of_somebody_else(&engine, &image, &server).await;
    an_image_without_the_server(&engine, &image).await;
    engine.stop().await;
}

async fn nothing_to_create_it_from(engine: &Engine, server: &Server) {
    let error = service(engine, None, &server.command).start(&op(), WAIT).await.unwrap_err();
    assert!(error.to_string().contains("there is no container 'trove-test' and no image to create it from"), "{error}");
}

/// One a developer made: started and stopped, and never replaced.
async fn a_container_of_somebody_else(engine: &Engine, image: &str, server: &Server) {
    let volume = format!("--volume={0}:{0}", server.dir);
    let defaults = format!("--defaults-file={}/conf/my.cnf", server.dir);
    let create = ["create", "--name=trove-test", "--network=none", &volume, image, "/usr/sbin/mariadbd", &defaults, "--user=mysql"];
    let id = engine.docker(&create).await.unwrap().stdout;
    let docker = service(engine, Some("another:image"), &server.command);
    assert_eq!(docker.state(&op()).await.unwrap(), UnitState::Stopped);
    docker.start(&op(), WAIT).await.unwrap();
    docker.restart(&op(), WAIT).await.unwrap();
    docker.stop(&op(), WAIT).await.unwrap();
    let now = engine.docker(&["inspect", "--format", "{{.Id}}", "trove-test"]).await.unwrap().stdout;
    assert_eq!(now, id);
    engine.docker(&["rm", "trove-test"]).await.unwrap();
}

async fn an_image_without_the_server(engine: &Engine, image: &str) {
    let none = ServerCommand { programs: vec!["/no/such/a".into(), "/no/such/b".into()], ..ServerCommand::default() };
    let error = service(engine, Some(image), &none).start(&op(), WAIT).await.unwrap_err();
    assert!(error.to_string().contains("has none of /no/such/a, /no/such/b"), "{error}");
    let one = ServerCommand { programs: vec!["/no/such/a".into()], ..ServerCommand::default() };
    let docker = service(engine, Some(image), &one);
    let error = docker.start(&op(), WAIT).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/a"), "{error}");
    // It does not stand in the way of the next attempt.
    assert_eq!(docker.state(&op()).await.unwrap(), UnitState::Missing);
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_named() {
    let host = Arc::new(Host("unix:///var/tmp/no-such-engine.sock".to_owned()));
    let container = DockerContainer { name: "trove-test".to_owned(), image: None, stop_wait: WAIT };
    let error = Docker::new(container, ServerCommand::default(), host).state(&op()).await.unwrap_err();
    assert!(error.to_string().starts_with("the docker engine cannot be reached: "), "{error}");
    assert!(error.to_string().contains("DOCKER_HOST"), "{error}");
}
