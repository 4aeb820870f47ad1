//! Logging: one line an event, as oslo.log writes it or as JSON, to a file, standard error or systemd's journal.

mod file;
mod journal;
mod json;
mod layer;
mod record;
mod request;
mod text;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogSettings;
use crate::error::Result;

pub use file::Reopen;
pub use request::of_request;

use layer::{Format, Log, Output};

/// Sets logging up for the life of the process. `RUST_LOG` overrules `debug`. What is returned has the log file opened anew.
///
/// # Errors
/// The log file cannot be opened, or there is no journal to write to.
pub fn init(settings: &LogSettings) -> Result<Reopen> {
    let default = if settings.debug { "info,lapin=off,trove_guestagent=debug" } else { "warn,lapin=off,trove_guestagent=info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let format = if settings.json { Format::Json } else { Format::Text };
    let mut outputs = Vec::new();
    let mut reopen = Reopen::default();
    if let Some(path) = &settings.file {
        let file = file::LogFile::open(path, settings.watch_file)?;
        reopen = file.reopen();
        outputs.push(Output::File(file, format));
    }
    if settings.journal {
        outputs.push(Output::Journal(journal::Journal::connect(journal::SOCKET)?));
    }
    if settings.stderr || outputs.is_empty() {
        outputs.push(Output::Stderr { format, with_priority: journal::reads_standard_error() });
    }
    tracing_subscriber::registry().with(filter).with(Log::new(outputs)).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "internal error")));
    Ok(reopen)
}
