//! What every implementation of service control promises, sentence by sentence, with a real MariaDB.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trove_guestagent::error::Error;
use trove_guestagent::system::command::CommandSpec;
use trove_guestagent::system::service::{ServerCommand, ServiceControl, UnitState};

use super::support::{op, wait_until};

pub(crate) const WAIT: Duration = Duration::from_secs(120);
/// An option no server knows, planted to make it end at once.
const UNKNOWN_OPTION: &str = "planted_unknown_option";

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
                run_dirs: vec![dir.join("run")],
                mounts: vec![dir.join("conf"), dir.join("data"), dir.join("tmp")],
                log_file: dir.join("log/server.log"),
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

    /// Makes the next start fail, or work again.
    pub(crate) fn spoil(&self, spoiled: bool) {
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

/// Checks the contract on a server that is installed and stopped; leaves it stopped. `spoil` makes a start fail.
pub(crate) async fn check(service: &dyn ServiceControl, spoil: impl Fn(bool)) {
    let op = op();
    // A stopped server can be stopped.
    service.stop(&op, WAIT).await.unwrap();

    // Start is idempotent, and says so only when a process runs.
    service.start(&op, WAIT).await.unwrap();
    let pid = running_pid(service).await;
    assert!(Utf8Path::new(&format!("/proc/{pid}")).exists());
    service.start(&op, WAIT).await.unwrap();
    assert_eq!(running_pid(service).await, pid);

    // Programs run where the server's own are, with standard input, and their failure is told.
    let echo = CommandSpec::new("cat").arg("-").arg("/etc/mysql/my.cnf").stdin_secret("from standard input\n".into());
    assert!(service.exec(&op, echo).await.unwrap().stdout.starts_with("from standard input\n"));
    let environment = CommandSpec::new("printenv").arg("PLANTED").env("PLANTED", "value with blanks");
    assert_eq!(service.exec(&op, environment).await.unwrap().stdout, "value with blanks\n");
    let error = service.exec(&op, CommandSpec::new("ls").arg("/no/such")).await.unwrap_err();
    assert!(error.to_string().contains("cannot access '/no/such'"), "{error}");

    // Nothing is left of a program whose deadline has passed.
    let slow = CommandSpec::new("sleep").arg("4711.25").timeout(Duration::from_millis(1500));
    let error = service.exec(&op, slow).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    wait_until("the program is gone", Duration::from_secs(10), async || !is_running("sleep\x004711.25\0")).await;

    // Restart is another process.
    service.restart(&op, WAIT).await.unwrap();
    let restarted = running_pid(service).await;
    assert_ne!(restarted, pid);

    // A server that does not stop in time is left alone, and stops when it can.
    signal(restarted, Signal::SIGSTOP);
    let error = service.stop(&op, Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(running_pid(service).await, restarted);
    signal(restarted, Signal::SIGCONT);
    wait_until("the server has stopped", WAIT, async || service.state(&op).await.unwrap() == UnitState::Stopped).await;
    assert!(!Utf8Path::new(&format!("/proc/{restarted}")).exists());

    // A server that ends at once is a failed start, with its own reason.
    spoil(true);
    let error = service.start(&op, WAIT).await.unwrap_err();
    assert!(error.to_string().contains(UNKNOWN_OPTION), "{error}");
    assert_eq!(service.state(&op).await.unwrap(), UnitState::Failed);
    spoil(false);
    service.start(&op, WAIT).await.unwrap();
    running_pid(service).await;

    // Enabling and disabling touch nothing that runs, and can be repeated.
    for enabled in [false, false, true, true] {
        service.set_enabled(&op, enabled).await.unwrap();
        running_pid(service).await;
    }

    // Stop returns when the process is gone.
    let last = running_pid(service).await;
    service.stop(&op, WAIT).await.unwrap();
    assert!(!Utf8Path::new(&format!("/proc/{last}")).exists());
    assert_eq!(service.state(&op).await.unwrap(), UnitState::Stopped);
}

/// True when a process has this command line.
fn is_running(command_line: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|process| process.path().join("cmdline"))
        .any(|path| std::fs::read(path).is_ok_and(|line| line == command_line.as_bytes()))
}
