//! What every implementation of service control promises, sentence by sentence, with a real MariaDB.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trove_guestagent::error::Error;
use trove_guestagent::system::command::CommandSpec;
use trove_guestagent::system::service::{ServerCommand, ServiceControl, StopSignal, UnitState};

use super::support::{op, wait_until};

pub(crate) const WAIT: Duration = Duration::from_secs(120);
/// An option no server knows, planted to make it end at once.
pub(crate) const UNKNOWN_OPTION: &str = "planted_unknown_option";

/// A MariaDB server below a directory.
pub(crate) struct Server {
    pub(crate) dir: Utf8PathBuf,
    pub(crate) command: ServerCommand,
}

impl Server {
    /// Files and command of a server without TCP. `dir` must be open to the account `mysql`.
    pub(crate) fn below(dir: &Utf8Path) -> Self {
        let server = Server {
            dir: dir.to_owned(),
            command: ServerCommand {
                programs: vec!["/usr/sbin/no-such-server".into(), "/usr/sbin/mariadbd".into()],
                args: vec![format!("--defaults-file={dir}/conf/my.cnf"), "--user=mysql".to_owned()],
                user: "mysql".to_owned(),
                started_as_user: false,
                run_dirs: vec![dir.join("run")],
                mounts: vec![dir.join("conf"), dir.join("data"), dir.join("tmp")],
                log_file: dir.join("log/server.log"),
                stop_signal: StopSignal::Terminate,
            },
        };
        std::fs::create_dir(dir.join("conf")).unwrap();
        std::fs::create_dir(dir.join("data")).unwrap();
        std::fs::create_dir(dir.join("tmp")).unwrap();
        std::fs::set_permissions(dir.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
        server.configure("");
        server
    }

    fn configure(&self, line: &str) {
        let dir = &self.dir;
        let text = format!(
            "[mysqld]\ndatadir={dir}/data/db\nsocket={dir}/run/s\npid-file={dir}/run/p\ntmpdir={dir}/tmp\nskip-networking\n{line}\n"
        );
        std::fs::write(dir.join("conf/my.cnf"), text).unwrap();
    }

    /// Makes the data directory, where the server will run.
    pub(crate) async fn install(&self, service: &dyn ServiceControl) {
        let dir = &self.dir;
        let install = CommandSpec::new("mariadb-install-db")
            .args([&format!("--defaults-file={dir}/conf/my.cnf"), "--user=mysql", &format!("--datadir={dir}/data/db"), "--skip-test-db"])
            .timeout(WAIT);
        service.exec(&op(), install).await.unwrap();
    }
}

impl Setting for Server {
    fn spoil(&self, spoiled: bool) {
        self.configure(if spoiled { UNKNOWN_OPTION } else { "" });
    }
}

pub(crate) async fn running_pid(service: &dyn ServiceControl) -> i32 {
    match service.state(&op()).await.unwrap() {
        UnitState::Running { pid: Some(pid) } => pid,
        other => panic!("the server is {other:?}"),
    }
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// What the contract needs done to a server from outside.
#[async_trait]
pub(crate) trait Setting: Sync {
    /// Makes the next start fail because of [`UNKNOWN_OPTION`], or work again.
    fn spoil(&self, spoiled: bool);

    /// Makes the running server slow to stop, or lets it.
    async fn stall(&self, pid: i32, stalled: bool) {
        signal(pid, if stalled { Signal::SIGSTOP } else { Signal::SIGCONT });
    }
}

/// Checks the contract on a server that is installed and stopped; leaves it stopped.
pub(crate) async fn check(service: &dyn ServiceControl, setting: &dyn Setting) {
    start_and_restart(service).await;
    run_programs(service).await;
    leave_nothing_of_a_slow_program(service).await;
    stop_in_time_or_not_at_all(service, setting).await;
    end_at_once(service, setting).await;
    enable_and_disable(service).await;
    stop(service).await;
}

fn exists(pid: i32) -> bool {
    Utf8Path::new(&format!("/proc/{pid}")).exists()
}

/// A stopped server can be stopped and a running one started; restart is another process.
async fn start_and_restart(service: &dyn ServiceControl) {
    let op = op();
    service.stop(&op, WAIT).await.unwrap();
    service.start(&op, WAIT).await.unwrap();
    let pid = running_pid(service).await;
    assert!(exists(pid));
    service.start(&op, WAIT).await.unwrap();
    assert_eq!(running_pid(service).await, pid);
    service.restart(&op, WAIT).await.unwrap();
    assert_ne!(running_pid(service).await, pid);
}

/// Programs run where the server's own are, with standard input and environment, and their failure is told.
async fn run_programs(service: &dyn ServiceControl) {
    let op = op();
    let echo = CommandSpec::new("cat").arg("-").arg("/etc/mysql/my.cnf").stdin_secret("from standard input\n".into());
    assert!(service.exec(&op, echo).await.unwrap().stdout.starts_with("from standard input\n"));
    let environment = CommandSpec::new("printenv").arg("PLANTED").env("PLANTED", "value with blanks");
    assert_eq!(service.exec(&op, environment).await.unwrap().stdout, "value with blanks\n");
    let error = service.exec(&op, CommandSpec::new("ls").arg("/no/such")).await.unwrap_err();
    assert!(error.to_string().contains("cannot access '/no/such'"), "{error}");
}

/// Nothing is left of a program whose deadline has passed.
async fn leave_nothing_of_a_slow_program(service: &dyn ServiceControl) {
    // No other test has this server, so no other has this program.
    let seconds = format!("4711.{}", running_pid(service).await);
    let slow = CommandSpec::new("sleep").arg(&seconds).timeout(Duration::from_millis(1500));
    let error = service.exec(&op(), slow).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let line = format!("sleep\0{seconds}\0");
    wait_until("the program is gone", Duration::from_secs(10), async || !is_running(&line)).await;
}

/// A server that does not stop in time is left alone, and stops when it can.
async fn stop_in_time_or_not_at_all(service: &dyn ServiceControl, setting: &dyn Setting) {
    let pid = running_pid(service).await;
    setting.stall(pid, true).await;
    let error = service.stop(&op(), Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(running_pid(service).await, pid);
    setting.stall(pid, false).await;
    wait_until("the server has stopped", WAIT, async || service.state(&op()).await.unwrap() == UnitState::Stopped).await;
    assert!(!exists(pid));
}

/// A server that ends at once is a failed start, with its own reason.
async fn end_at_once(service: &dyn ServiceControl, setting: &dyn Setting) {
    let op = op();
    setting.spoil(true);
    let error = service.start(&op, WAIT).await.unwrap_err();
    assert!(error.to_string().contains(UNKNOWN_OPTION), "{error}");
    assert_eq!(service.state(&op).await.unwrap(), UnitState::Failed);
    setting.spoil(false);
    service.start(&op, WAIT).await.unwrap();
    running_pid(service).await;
}

/// Enabling and disabling touch nothing that runs, and can be repeated.
async fn enable_and_disable(service: &dyn ServiceControl) {
    for enabled in [false, false, true, true] {
        service.set_enabled(&op(), enabled).await.unwrap();
        running_pid(service).await;
    }
}

/// Stop returns when the process is gone.
async fn stop(service: &dyn ServiceControl) {
    let pid = running_pid(service).await;
    service.stop(&op(), WAIT).await.unwrap();
    assert!(!exists(pid));
    assert_eq!(service.state(&op()).await.unwrap(), UnitState::Stopped);
}

/// True when a process has this command line.
fn is_running(command_line: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|process| process.path().join("cmdline"))
        .any(|path| std::fs::read(path).is_ok_and(|line| line == command_line.as_bytes()))
}
