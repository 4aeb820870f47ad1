//! A server in a container that somebody else has made.

use super::layout::Layout;
use crate::error::{Result, ResultExt};
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::system::files;
use crate::system::service::ServiceControl;

/// True when the server cannot see the agent's files: a container that somebody else has made, with files of its own.
/// Such a server is used as it is.
///
/// # Errors
/// The container cannot be asked.
pub(super) async fn is_foreign(op: &Op, service: &dyn ServiceControl, layout: &Layout) -> Result<bool> {
    if !service.brings_its_own_programs() {
        return Ok(false);
    }
    let directory = layout.config_dir();
    files::ensure_directory(directory, 0o755, None)?;
    let sign = tempfile::Builder::new().prefix(files::SCRATCH).tempfile_in(directory).action(format!("write into {directory}"))?;
    let sign = sign.path().to_string_lossy().into_owned();
    let look = service.exec(op, CommandSpec::new("test").args(["-e", &sign]).accept(&[1])).await?;
    Ok(look.code == 1)
}
