//! `trove-guestctl`: drives and watches guests over the message broker.

use std::process::ExitCode;

use clap::Parser;
use trove_guestagent::ctl::{Cli, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).with_target(false).without_time().init();
    run(cli).await
}
