//! [`feed`]: a stored backup into the tool that takes it back.

use bytes::Bytes;
use camino::Utf8Path;
use tokio::io::AsyncWriteExt;

use crate::error::{Error, Result};
use crate::op::Op;
use crate::strategies::storage::ByteStream;
use crate::system::command::CommandOutput;
use crate::system::running::RunningCommand;
use crate::volume;

/// A volume with less left than this is full.
const FULL_BYTES: u64 = 1 << 20;

/// Writes all of `content` to the program's standard input, and waits for its end. `through` gets every buffer first, and
/// the program what it returns.
///
/// # Errors
/// The content broke off, or `through` refused it: that error, and the program is ended. The program failed, or ended before it had read everything.
pub async fn feed(
    op: &Op,
    mut program: RunningCommand,
    mut content: ByteStream,
    mut through: impl FnMut(Bytes) -> Result<Bytes> + Send,
) -> Result<CommandOutput> {
    let Some(mut input) = program.take_stdin() else { return Err(Error::guest("the program's input is in use already")) };
    // Nobody reads its output: it must not be able to fill a pipe.
    let drain =
        program.take_stdout().map(|mut output| tokio::spawn(async move { tokio::io::copy(&mut output, &mut tokio::io::sink()).await }));
    let mut refused = false;
    loop {
        let next = match op.until_cancelled("read the backup", content.recv()).await {
            Ok(next) => next,
            Err(cancelled) => {
                program.end().await;
                return Err(cancelled);
            }
        };
        match next.map(|item| item.and_then(&mut through)) {
            None => break,
            Some(Err(error)) => {
                // What it would say of half an input is no news.
                program.end().await;
                return Err(error);
            }
            Some(Ok(bytes)) => {
                if input.write_all(&bytes).await.is_err() {
                    refused = true;
                    break;
                }
            }
        }
    }
    // Some tools report a flush that fails only here.
    drop(input);
    let output = program.finish(op).await;
    if let Some(drain) = drain {
        drain.abort();
    }
    let output = output?;
    if refused {
        return Err(Error::guest(
            "the program that takes the backup back ended well before it had read all of it: is the backup of another kind?",
        ));
    }
    Ok(output)
}

/// [`feed`] to a program that unpacks an archive below a directory.
///
/// # Errors
/// Those of [`feed`]; a volume that is full is told as such.
pub async fn unpack(
    op: &Op,
    program: RunningCommand,
    content: ByteStream,
    into: &Utf8Path,
    through: impl FnMut(Bytes) -> Result<Bytes> + Send,
) -> Result<()> {
    match feed(op, program, content, through).await {
        Err(error @ Error::Command { .. }) if volume::filesystem_stats(into).is_ok_and(|stats| stats.available() < FULL_BYTES) => {
            Err(Error::guest(format!(
                "the volume is full: the backup needs more than there is at {into}; restore it to a larger volume ({error})"
            )))
        }
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::storage::byte_stream;
    use crate::system::command::CommandSpec;
    use tokio_util::sync::CancellationToken;

    async fn fed(program: CommandSpec, content: Vec<Result<&'static [u8]>>) -> Result<Vec<u8>> {
        let (sender, stream) = byte_stream(1);
        tokio::spawn(async move {
            for item in content {
                if sender.send(item.map(Bytes::from_static)).await.is_err() {
                    break;
                }
            }
        });
        let op = Op::internal(CancellationToken::new());
        let mut seen = Vec::new();
        feed(&op, RunningCommand::start(program)?, stream, |bytes| {
            seen.extend_from_slice(&bytes);
            Ok(bytes)
        })
        .await?;
        Ok(seen)
    }

    #[tokio::test]
    async fn everything_is_written_and_the_first_cause_is_told() {
        assert_eq!(fed(CommandSpec::new("cat"), vec![Ok(b"one"), Ok(b"two")]).await.unwrap(), b"onetwo");
        let broken = fed(CommandSpec::new("cat"), vec![Ok(b"one"), Err(Error::guest("segment 3 is damaged"))]).await.unwrap_err();
        assert_eq!(broken.to_string(), "segment 3 is damaged");
        let failed = fed(CommandSpec::new("false"), vec![Ok(b"one")]).await.unwrap_err();
        assert!(matches!(failed, Error::Command { .. }), "{failed}");
    }
}
