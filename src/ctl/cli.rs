//! The command line of `trove-guestctl`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

use super::remote::Remote;
use super::{call, doctor, pages, status, verify, watch};
use crate::error::Result;

/// Drives and watches Trove guests over the message broker, without a controller.
///
/// Exit codes: 0 done; 1 the guest answered with an error, or could not be asked; 2 a mistake on the command line.
#[derive(Debug, Parser)]
#[command(name = "trove-guestctl", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  trove-guestctl call 5f1c list_databases limit=5
  trove-guestctl call 5f1c create_database 'databases=[{\"_name\": \"shop\"}]'
  trove-guestctl --config-dir /var/tmp/trove-loop/conf.d call loop prepare --args-file prepare.json --timeout 300
  trove-guestctl watch --seconds 60
  trove-guestctl status --watch
  trove-guestctl doctor";

/// Where the broker is. By default: what the files of `/etc/trove/conf.d` say, as on a guest.
#[derive(Debug, Args)]
#[command(next_help_heading = "Broker")]
pub(super) struct BrokerArgs {
    /// Directory with trove-guestagent.conf (and guest_info.conf).
    #[arg(long, global = true, default_value = "/etc/trove/conf.d")]
    pub(super) config_dir: Utf8PathBuf,
    /// File that holds a transport_url, such as rabbit://user:password@host:5672/ (a file, because a command line shows passwords).
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) transport_url_file: Option<Utf8PathBuf>,
    /// control_exchange, when there is no configuration to read.
    #[arg(long, global = true, default_value = "openstack")]
    pub(super) exchange: String,
    /// File that holds the guest's instance_rpc_encr_key; without it, the configuration's key or none.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) key_file: Option<Utf8PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends a guest one RPC and prints the answer as JSON.
    ///
    /// Arguments are NAME=JSON (`limit=5`, `databases='[{"_name": "shop"}]'`); what is not JSON is taken as text. Put passwords into a file:
    /// `--args-file FILE`, or `-` for standard input.
    Call(CallArgs),
    /// Stands in for the conductor: consumes its queue and prints what guests say. Not beside a real conductor: each message reaches one of the two.
    Watch(WatchArgs),
    /// Shows what the agent of this guest is doing now.
    Status(StatusArgs),
    /// Looks at everything this guest needs, and says what is wrong and what to do. Changes nothing.
    ///
    /// Configuration, agent, last heartbeat, broker (TLS, login, queue), conductor, database, backup tool, storage, clock, volume, disks, journal.
    /// Exit codes: 0 nothing is broken (there may be warnings); 1 something is.
    Doctor(DoctorArgs),
    /// Holds a restore drill: restores a backup into a directory of its own, starts a server on it, checks every table, throws all of it away.
    ///
    /// The instance's own database goes on. Exit code 1: the backup is damaged, or could not be looked at.
    VerifyBackup(VerifyArgs),
    /// Writes manual pages and shell completions of both programs below a directory, as a package has them.
    #[command(hide = true)]
    PackagingFiles {
        /// What stands for `/`.
        root: Utf8PathBuf,
    },
}

/// `call`.
#[derive(Debug, Args)]
pub(super) struct CallArgs {
    /// The guest's id.
    pub(super) guest: String,
    /// RPC method, such as rpc_ping or list_users.
    pub(super) method: String,
    /// Arguments of the method, each NAME=JSON.
    #[arg(value_name = "NAME=JSON")]
    pub(super) args: Vec<String>,
    /// A JSON object of arguments, from a file or `-`.
    #[arg(long, value_name = "FILE")]
    pub(super) args_file: Option<Utf8PathBuf>,
    /// Do not wait for an answer.
    #[arg(long)]
    pub(super) cast: bool,
    /// RPC version to ask for.
    #[arg(long, value_name = "VERSION", default_value = "1.0")]
    pub(super) rpc_version: String,
    /// Seconds to wait for the answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(super) timeout: u64,
}

/// `watch`.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// The conductor's queue.
    #[arg(long, default_value = "trove-conductor")]
    pub(super) queue: String,
    /// End after this many messages.
    #[arg(long)]
    pub(super) count: Option<usize>,
    /// End after this many seconds.
    #[arg(long)]
    pub(super) seconds: Option<u64>,
}

/// `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The agent's own words, one JSON document each time.
    #[arg(long)]
    pub(super) json: bool,
    /// Once a second, until it is interrupted; an agent that is restarted meanwhile is waited for.
    #[arg(long)]
    pub(super) watch: bool,
    /// The agent's state_dir, when it is not the configuration's.
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<Utf8PathBuf>,
}

/// `doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// The report as one JSON document: {"verdict", "findings": [{"check", "verdict", "found", "advice"}]}.
    #[arg(long)]
    pub(super) json: bool,
    /// Seconds a check may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) timeout: u64,
    /// File that holds a token for the storage, where the guest has no account of its own.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<Utf8PathBuf>,
    /// Account in Swift (https://swift/v1/AUTH_project), when the configuration does not say.
    #[arg(long, value_name = "URL")]
    pub(super) swift_url: Option<String>,
}

/// `verify-backup`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Where the backup is, as Trove shows it: <storage url>/<container>/<object>. The backups an incremental one builds on are found.
    pub(super) location: String,
    /// The checksum it must have.
    #[arg(long)]
    pub(super) checksum: Option<String>,
    /// Its type, as Trove has it (InnoBackupEx, MySQLDump, full, ...); the object's name tells otherwise.
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) kind: Option<String>,
    /// File that holds a token for the storage; without it, the account of [backup_credentials].
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<Utf8PathBuf>,
    /// Account in Swift (https://swift/v1/AUTH_project), when the configuration does not say.
    #[arg(long, value_name = "URL")]
    pub(super) swift_url: Option<String>,
    /// Directory with room for the restored database, in place of backup_drill_dir and the data volume.
    #[arg(long, value_name = "DIR")]
    pub(super) scratch_dir: Option<Utf8PathBuf>,
    /// The report as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

async fn call(broker: &BrokerArgs, args: CallArgs) -> Result<ExitCode> {
    // A mistake of the caller's comes first: no broker is needed to tell it.
    let values = call::arguments(&args)?;
    call::run(&Remote::connect(broker).await?, args, values).await
}

async fn watch(broker: &BrokerArgs, args: WatchArgs) -> Result<ExitCode> {
    let limit = args.seconds.map_or(Duration::MAX, Duration::from_secs);
    watch::run(&Remote::connect(broker).await?, &args.queue, args.count, limit).await
}

/// Runs a command; its errors are printed.
pub async fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Call(args) => call(&cli.broker, args).await,
        Command::Watch(args) => watch(&cli.broker, args).await,
        Command::Status(args) => status::run(&cli.broker, &args).await,
        Command::Doctor(args) => doctor::run(&cli.broker, &args).await,
        Command::VerifyBackup(args) => verify::run(&cli.broker, &args).await,
        Command::PackagingFiles { root } => pages::run(&root),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // Nowhere to go when standard error is closed.
            writeln!(std::io::stderr(), "trove-guestctl: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
