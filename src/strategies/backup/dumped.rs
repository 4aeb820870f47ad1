//! [`dumped`]: what a dump tool writes, as the stream of a backup.

use super::BackupStream;
use super::watched::{Watcher, watched};
use crate::error::{Error, Result};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::system::command::CommandOutput;
use crate::system::running::RunningCommand;

/// The stream of a tool that was started. When it has ended well by its exit status, `judge` looks at its log and at both ends of the dump.
///
/// # Errors
/// Its output was taken already.
pub(super) fn dumped(
    op: &Op,
    mut running: RunningCommand,
    judge: fn(&CommandOutput, &Watcher) -> Result<BackupMetadata>,
) -> Result<BackupStream> {
    drop(running.take_stdin());
    let Some(output) = running.take_stdout() else { return Err(Error::guest("the dump has no output")) };
    let (reader, watcher) = watched(output);
    let op = op.clone();
    let finish = async move { judge(&running.finish(&op).await?, &watcher) };
    Ok(BackupStream { reader, finish: Box::pin(finish) })
}
