//! `trove-guestagent`: reads its configuration, sets logging up, runs until SIGTERM.

use std::io::Write;
use std::process::ExitCode;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trove_guestagent::agent;
use trove_guestagent::cli::Cli;
use trove_guestagent::config::{Settings, Sources};
use trove_guestagent::telemetry::{self, Reopen};

/// `EX_USAGE` of sysexits.h: the configuration is at fault, and starting again will not help.
const EX_USAGE: u8 = 64;
/// Threads for changes and backups, which may wait for the disk. Enough for an agent, and half the memory of one per core on a large guest.
const OPERATION_THREADS: usize = 2;

fn main() -> ExitCode {
    let cli = Cli::of_process();
    let sources = cli.sources();
    let settings = match Settings::load(&sources) {
        Ok(settings) => settings,
        Err(errors) => return fail(&errors, EX_USAGE),
    };
    if cli.check_config {
        // Nowhere to go when standard output is closed.
        writeln!(std::io::stdout(), "{}", settings.describe().join("\n")).ok();
        return ExitCode::SUCCESS;
    }
    let log = match telemetry::init(&settings.log) {
        Ok(log) => log,
        Err(error) => return fail(&error, 1),
    };
    // The wire has a thread of its own: a call is answered without waking another, and never waits for an operation's disk.
    let runtimes = Builder::new_current_thread().enable_all().build().and_then(|wire| Ok((wire, operations()?)));
    let (wire, operations) = match runtimes {
        Ok(runtimes) => runtimes,
        Err(error) => return fail(&error, 1),
    };
    match wire.block_on(serve(settings, sources, operations.handle().clone(), log)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "failed to run");
            ExitCode::FAILURE
        }
    }
}

fn operations() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(OPERATION_THREADS).thread_name("operation").enable_all().build()
}

async fn serve(settings: Settings, sources: Sources, operations: Handle, log: Reopen) -> trove_guestagent::Result<()> {
    use trove_guestagent::error::ResultExt;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).action("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).action("listen for SIGINT")?;
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::select! {
                // Cancel-safe: signals.
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("asked to stop");
            stop.cancel();
        }
    });
    let mut hangup = signal(SignalKind::hangup()).action("listen for SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match log.now() {
                Ok(()) => tracing::info!("asked to open the log file anew"),
                Err(error) => tracing::error!(%error, "lines go where they went"),
            }
        }
    });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), guest_id = settings.guest_id, datastore = settings.datastore_manager, "starting");
    agent::run(settings, sources, stop, operations).await
}

fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    // Nowhere to go when standard error is closed.
    writeln!(std::io::stderr(), "trove-guestagent: {error}").ok();
    ExitCode::from(code)
}
