//! Logging: one line an event, to standard error or to Trove's log file.

use std::fs::OpenOptions;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::LogSettings;
use crate::error::{Result, ResultExt};

/// Sets logging up for the life of the process. `RUST_LOG` overrules `debug`.
///
/// # Errors
/// The log file cannot be opened.
pub fn init(settings: &LogSettings) -> Result<()> {
    let default = if settings.debug { "info,lapin=off,trove_guestagent=debug" } else { "warn,lapin=off,trove_guestagent=info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_span_events(FmtSpan::NONE).with_target(false);
    match &settings.file {
        None => builder.with_writer(std::io::stderr).with_ansi(false).init(),
        Some(path) => {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory).action(format!("create {directory}"))?;
            }
            let file = OpenOptions::new().create(true).append(true).open(path).action(format!("open the log file {path}"))?;
            builder.with_writer(Mutex::new(file)).with_ansi(false).init();
        }
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "internal error")));
    Ok(())
}
