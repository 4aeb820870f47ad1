//! What the tests of every datastore's manager share: a runtime that outlives them, all that was logged, directories, and waits.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::future::Future;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Once};
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::FutureExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;
use trove_guestagent::error::{Error, Result};
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::model::ServiceStatus;
use trove_guestagent::op::Op;
use trove_guestagent::system::packages::PackageManager;
use trove_guestagent::system::service::UnitState;

/// Servers are children of this runtime's threads, and are told to end with the thread that started them: it must outlive all tests.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
static LOG: LazyLock<Log> = LazyLock::new(Log::default);
static COUNTER: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// What the last panic of this thread said.
    static SAID: RefCell<String> = RefCell::default();
}

/// Runs a test on the runtime that outlives it. What it panics with is said by the test's own thread: what the runtime's threads print goes to the test that
/// happened to start them.
pub(crate) fn run(test: impl Future<Output = ()> + Send + 'static) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            SAID.set(format!("{panic}\nstack backtrace:\n{}", Backtrace::force_capture()));
            print(panic);
        }));
    });
    let watched = async { AssertUnwindSafe(test).catch_unwind().await.map_err(|panic| (panic, SAID.take())) };
    let outcome = RUNTIME.block_on(RUNTIME.spawn(watched)).unwrap();
    if let Err((panic, said)) = outcome {
        eprintln!("{said}");
        std::panic::resume_unwind(panic);
    }
}

/// Everything logged by all tests, to look for secrets in.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything logged so far, down to TRACE.
pub(crate) fn logged() -> String {
    String::from_utf8_lossy(&LOG.0.lock().unwrap()).into_owned()
}

#[derive(Debug)]
pub(crate) struct NoPackages;

#[async_trait]
impl PackageManager for NoPackages {
    async fn install(&self, _op: &Op, packages: &[String]) -> Result<()> {
        Err(Error::guest(format!("no test installs packages: {packages:?}")))
    }

    async fn upgrade(&self, _op: &Op, packages: &[String]) -> Result<()> {
        Err(Error::guest(format!("no test installs packages: {packages:?}")))
    }
}

/// A directory for a guest, `/tmp/trove-DATASTORE-PID-NUMBER-NAME`; what it does is logged from here on.
pub(crate) fn new_directory(datastore: &str, name: &str) -> Utf8PathBuf {
    let prefix = format!("trove-{datastore}-");
    sweep(&prefix);
    let log = LOG.clone();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(move || log.clone()).try_init().ok();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let dir = Utf8PathBuf::from(format!("/tmp/{prefix}{}-{number}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Directories of test programs that are gone: a killed one cannot clean up.
fn sweep(prefix: &str) {
    for entry in Utf8Path::new("/tmp").read_dir_utf8().unwrap().flatten() {
        let pid = entry.file_name().strip_prefix(prefix).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Utf8Path::new("/proc").join(pid).exists()) {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// Stops the server and removes the guest's directory.
pub(crate) async fn stop_and_remove(manager: &dyn DatastoreManager, op: &Op, dir: &Utf8Path) {
    manager.stop(op).await.unwrap();
    // The supervisor of an agent's earlier life may note the server's end in there at this very moment.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut tries = tokio::time::interval(Duration::from_millis(50));
    while let Err(error) = std::fs::remove_dir_all(dir) {
        assert!(tokio::time::Instant::now() < deadline, "{dir}: {error}");
        tries.tick().await;
    }
}

/// The server's process.
pub(crate) async fn pid_of(manager: &dyn DatastoreManager, op: &Op) -> Pid {
    match manager.service().state(op).await.unwrap() {
        UnitState::Running { pid: Some(pid) } => Pid::from_raw(pid),
        other => panic!("the server is {other:?}"),
    }
}

/// Kills the server, and waits until its supervisor knows.
pub(crate) async fn kill_server(manager: &dyn DatastoreManager, op: &Op) {
    kill(pid_of(manager, op).await, Signal::SIGKILL).unwrap();
    let noticed = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while matches!(manager.service().state(op).await, Ok(UnitState::Running { .. })) {
            look.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noticed).await.expect("a server that was killed ends");
}

/// Waits until the probe says so.
pub(crate) async fn until_probed(manager: &dyn DatastoreManager, op: &Op, wanted: ServiceStatus) {
    let reached = async {
        let mut look = tokio::time::interval(Duration::from_millis(100));
        while manager.status().probe(op).await != wanted {
            look.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.unwrap_or_else(|_| panic!("never {wanted:?}"));
}
