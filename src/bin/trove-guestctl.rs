//! `trove-guestctl`: drives and watches guests over the message broker.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use trove_guestagent::ctl::{Cli, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // The AMQP library would print whole messages that come back, passwords included. What went wrong is in the error.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,lapin=off"));
    let plain = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).without_time();
    plain.with_ansi(std::io::stderr().is_terminal()).init();
    run(cli).await
}
