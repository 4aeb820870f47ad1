//! What a program writes: read to the end, kept within bounds, and the reason when it fails.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use super::command::{CommandOutput, CommandSpec};
use crate::error::{Error, Result};

/// What is kept of standard output.
const MAX_STDOUT: usize = 8 << 20;
/// What is kept of the end of standard error.
const MAX_STDERR: usize = 64 << 10;

/// Status, standard output and the end of standard error of a child that has ended.
pub(super) type Finished = (ExitStatus, Vec<u8>, Vec<u8>);

/// Feeds a child, and reads what it writes until it has ended.
pub(super) async fn collect(child: &mut Child, stdin: Option<&SecretString>) -> std::io::Result<Finished> {
    let input = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let feed = async {
        if let (Some(mut pipe), Some(text)) = (input, stdin) {
            // A program that does not read its input is judged by its exit status.
            pipe.write_all(text.expose_secret().as_bytes()).await.ok();
        }
    };
    let ((), out, err, status) = tokio::join!(feed, head(stdout), tail(stderr), child.wait());
    Ok((status?, out, err))
}

/// Reads to the end, keeping the first [`MAX_STDOUT`] bytes.
async fn head(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
            let room = MAX_STDOUT.saturating_sub(kept.len()).min(n);
            kept.extend_from_slice(&buffer[..room]);
        }
    }
    kept
}

/// Reads to the end, keeping the last [`MAX_STDERR`] bytes.
pub(super) async fn tail(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..n]);
            if kept.len() > 2 * MAX_STDERR {
                kept.drain(..kept.len() - MAX_STDERR);
            }
        }
        kept.drain(..kept.len().saturating_sub(MAX_STDERR));
    }
    kept
}

/// Judges a program by its exit status; what it wrote last is the reason.
pub(super) fn check(command: &CommandSpec, status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8>) -> Result<CommandOutput> {
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    match status.code() {
        Some(code) if command.accepts(code) => Ok(CommandOutput { code, stdout, stderr }),
        _ => Err(Error::Command {
            program: command.name().to_owned(),
            status: status.signal().map_or_else(|| status.to_string(), |signal| format!("signal: {signal}")),
            // Some tools (mysqld, apt-get) put their reason on standard output.
            stderr: if stderr.trim().is_empty() { last_lines(&stdout) } else { last_lines(&stderr) },
        }),
    }
}

/// The last few lines, for an error message. Of more than that, the first as well: some tools (mkfs.xfs) put a page of advice after their reason.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    match lines.len().checked_sub(8) {
        None | Some(0) => lines.join("; "),
        Some(skipped) => format!("{}; ...; {}", lines[0], lines[skipped + 1..].join("; ")),
    }
}
