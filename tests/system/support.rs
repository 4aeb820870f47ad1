//! What these tests share.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;
use trove_guestagent::error::{Error, Result};
use trove_guestagent::op::Op;
use trove_guestagent::system::command::{CommandOutput, CommandRunner, CommandSpec, SystemCommands};

/// Where base roots are cached (`dev/test` makes them).
pub(crate) const CACHE: &str = "/var/cache/trove-guestagent-dev";

/// Volumes are mounted while they hold it for reading. A container that starts has all mounts of the machine for itself for a moment, and takes it for writing.
pub(crate) static MOUNTS: LazyLock<Arc<RwLock<()>>> = LazyLock::new(Arc::default);

pub(crate) fn op() -> Op {
    Op::internal(CancellationToken::new())
}

/// Runs a program that must succeed; its standard output.
pub(crate) async fn run(args: &[&str]) -> String {
    let (program, rest) = args.split_first().unwrap();
    let spec = CommandSpec::new(*program).args(rest).timeout(Duration::from_secs(300));
    SystemCommands.run(&op(), spec).await.unwrap_or_else(|error| panic!("{args:?}: {error}")).stdout
}

/// Waits until `condition` holds.
pub(crate) async fn wait_until(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let wait = async {
        while !condition().await {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"));
}

/// A directory of the test's own that other accounts can enter.
pub(crate) fn scratch() -> (tempfile::TempDir, Utf8PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let dir =
        tempfile::Builder::new().prefix("trove-test-").permissions(std::fs::Permissions::from_mode(0o755)).tempdir_in("/var/tmp").unwrap();
    let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    (dir, path)
}

/// The base root of a guest with MariaDB in it, which `dev/test` makes. One that is missing fails the test.
pub(crate) fn mariadb_root() -> Utf8PathBuf {
    let roots =
        std::env::var("TROVE_TEST_ROOTS").expect("TROVE_TEST_ROOTS names the directory of the base roots: run this through dev/test");
    Utf8Path::new(&roots).join("mariadb-10.11").canonicalize_utf8().expect("there is a base root mariadb-10.11 in TROVE_TEST_ROOTS")
}

/// Records argument vectors; answers from a script.
#[derive(Debug, Default)]
pub(crate) struct Script {
    answers: Mutex<VecDeque<(i32, &'static str)>>,
    pub(crate) ran: Mutex<Vec<Vec<String>>>,
}

impl Script {
    /// `answers` are exit code and standard output of one program after the other.
    pub(crate) fn new(answers: &[(i32, &'static str)]) -> Arc<Self> {
        Arc::new(Script { answers: Mutex::new(answers.iter().copied().collect()), ran: Mutex::default() })
    }

    /// Argument vectors so far, blanks between arguments.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.ran.lock().unwrap().iter().map(|argv| argv.join(" ")).collect()
    }
}

#[async_trait]
impl CommandRunner for Script {
    async fn run(&self, _op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        self.ran.lock().unwrap().push(command.argv().into_iter().map(str::to_owned).collect());
        let (code, stdout) = self.answers.lock().unwrap().pop_front().unwrap_or_else(|| panic!("nothing to answer {command:?}"));
        if code < 0 {
            return Err(Error::Command {
                program: command.name().into(),
                status: format!("exit status: {}", -code),
                stderr: stdout.into(),
            });
        }
        Ok(CommandOutput { code, stdout: stdout.into(), stderr: String::new() })
    }
}

/// Runs everything inside a root.
#[derive(Debug)]
pub(crate) struct Chroot(pub(crate) Utf8PathBuf);

#[async_trait]
impl CommandRunner for Chroot {
    async fn run(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        SystemCommands.run(op, command.wrapped_by("chroot", [self.0.as_str()])).await
    }
}

/// An overlay on the base root: cheap, and gone when dropped.
#[derive(Debug)]
pub(crate) struct Overlay {
    pub(crate) root: Utf8PathBuf,
    _dir: tempfile::TempDir,
}

impl Overlay {
    pub(crate) async fn new() -> Self {
        let lower = mariadb_root();
        let (dir, path) = scratch();
        let (upper, work, root) = (path.join("upper"), path.join("work"), path.join("root"));
        for directory in [&upper, &work, &root] {
            std::fs::create_dir(directory).unwrap();
        }
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        run(&["mount", "-t", "overlay", "-o", &options, "overlay", root.as_str()]).await;
        Overlay { root, _dir: dir }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // Detached, so that a test that failed with something still running leaves no mount.
        nix::mount::umount2(self.root.as_std_path(), nix::mount::MntFlags::MNT_DETACH).ok();
    }
}
