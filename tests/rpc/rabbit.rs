//! A broker that a test may do anything to.

use std::process::Stdio;
use std::time::Duration;

use lapin::{Connection, ConnectionProperties};
use tokio::process::{Child, Command};

use crate::support::{DEADLINE, free_port, until};

const CONNECT: Duration = Duration::from_secs(3);

/// A RabbitMQ of one test's own, that may be killed.
pub(crate) struct Rabbit {
    dir: tempfile::TempDir,
    /// Base root with another release than this machine's.
    root: Option<String>,
    pub(crate) port: u16,
    epmd_port: u16,
    dist_port: u16,
    epmd: Option<Child>,
    node: Option<Child>,
}

impl Rabbit {
    pub(crate) async fn start() -> Rabbit {
        Rabbit::start_with("", "").await
    }

    /// With more lines of rabbitmq.conf, and a plugin.
    pub(crate) async fn start_with(lines: &str, plugin: &str) -> Rabbit {
        Rabbit::of(None, lines, plugin).await
    }

    /// A RabbitMQ 4.
    pub(crate) async fn start_4(lines: &str) -> Rabbit {
        let roots = std::env::var("TROVE_TEST_ROOTS").expect("TROVE_TEST_ROOTS is the directory with the base roots");
        Rabbit::of(Some(format!("{roots}/rabbitmq-4")), lines, "").await
    }

    async fn of(root: Option<String>, lines: &str, plugin: &str) -> Rabbit {
        let dir = tempfile::tempdir().unwrap();
        let (port, epmd_port, dist_port) = (free_port(), free_port(), free_port());
        let mut rabbit = Rabbit { dir, root, port, epmd_port, dist_port, epmd: None, node: None };
        let conf = format!("listeners.tcp.1 = 127.0.0.1:{}\nloopback_users = none\n{lines}", rabbit.port);
        std::fs::write(rabbit.dir.path().join("rabbitmq.conf"), conf).unwrap();
        std::fs::write(rabbit.dir.path().join("plugins"), format!("[{plugin}].\n")).unwrap();
        let mut epmd = rabbit.command("epmd");
        epmd.args(["-port", &rabbit.epmd_port.to_string(), "-address", "127.0.0.1"]);
        rabbit.epmd = Some(epmd.spawn().unwrap());
        rabbit.again().await;
        rabbit
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2F", self.port)
    }

    fn command(&self, program: &str) -> Command {
        let mut dir = self.dir.path();
        let mut command = Command::new(if self.root.is_some() { "unshare" } else { program });
        if let Some(root) = &self.root {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/dev/bench/enter_root.py");
            command.args(["--mount", "--", "python3", script, root]).arg(dir).arg(program);
            dir = std::path::Path::new("/srv");
        }
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8").env("HOME", dir);
        command.env("ERL_EPMD_PORT", self.epmd_port.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command
            .env("RABBITMQ_NODENAME", format!("t{}@127.0.0.1", self.port))
            .env("RABBITMQ_USE_LONGNAME", "true")
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string());
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 -kernel inet_dist_use_interface {127,0,0,1}");
        command.env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf")).env("RABBITMQ_CONF_ENV_FILE", dir.join("absent"));
        command.env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins")).env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"));
        command.env("RABBITMQ_LOG_BASE", dir.join("log")).env("RABBITMQ_PID_FILE", dir.join("pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).process_group(0);
        command
    }

    /// Starts the node and waits until it lets clients in.
    pub(crate) async fn again(&mut self) {
        self.node = Some(self.command("/usr/lib/rabbitmq/bin/rabbitmq-server").spawn().unwrap());
        let url = self.url();
        until("RabbitMQ", async || {
            // A node that is booting may accept and say nothing.
            tokio::time::timeout(CONNECT, Connection::connect(&url, ConnectionProperties::default())).await.ok()?.ok()
        })
        .await;
    }

    /// An orderly restart.
    pub(crate) async fn restart(&mut self) {
        self.ctl(&["stop"]).await;
        self.kill().await;
        self.again().await;
    }

    /// `rabbitmqctl`; what it prints.
    pub(crate) async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = self.command("/usr/lib/rabbitmq/bin/rabbitmqctl");
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let done = tokio::time::timeout(DEADLINE, command.output()).await.unwrap().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Dies at once, all of its processes.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            end_group(&node);
            tokio::time::timeout(DEADLINE, node.wait()).await.unwrap().unwrap();
        }
    }
}

fn end_group(child: &Child) {
    if let Some(pid) = child.id() {
        nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL).ok();
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.node.iter().chain(&self.epmd).for_each(end_group);
    }
}
