//! [`snapshot`]: all data of a running server, as its replicas get them.
//!
//! The agent asks for a synchronization and goes away when it has the data (as `redis-cli --rdb` does). The server forks and its child writes into
//! the socket: no client waits, nothing is written to the server's disk, and its own snapshots and their schedule are not touched
//! (redis.io, "Replication": diskless replication; src/replication.c: `syncCommand`, `rdbPipeReadHandler`).

use std::time::Duration;

use camino::Utf8Path;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::request::Request;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;

/// Until the server has forked: it may be writing a snapshot of its own first, and waits some seconds for more replicas.
const BEGIN_DEADLINE: Duration = Duration::from_secs(3600);
/// The server says something at least once a second while it makes ready (a newline), and its child writes all the time.
const SILENCE: Duration = Duration::from_secs(300);
/// Bytes on their way to the reader.
const BUFFER: usize = 1 << 20;
/// The line before the data: `$` and a length, or `$EOF:` and a mark.
const HEADER: usize = 256;
const MARK: usize = 40;

/// Data on their way.
#[derive(Debug)]
pub struct Snapshot {
    /// The contents of an RDB file.
    pub reader: DuplexStream,
    /// Their number, once all of them were read. Until this is told they are not whole.
    pub finish: AbortOnDropHandle<Result<u64>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Mark([u8; MARK]),
}

/// Begins one.
///
/// # Errors
/// The server refuses, as a replica without its source does.
pub async fn snapshot(op: &Op, socket: &Utf8Path, password: Option<&SecretString>) -> Result<Snapshot> {
    let action = format!("connect to {socket}");
    let mut stream = op.until_cancelled(&action, UnixStream::connect(socket)).await?.action(action)?;
    if let Some(password) = password {
        let auth = Request::new("AUTH").secret(password.clone());
        expect_ok(op, &mut stream, &auth).await?;
    }
    // Servers before 7 do not know the first, before 4 neither: they keep what clients write meanwhile for this replica, which never reads it.
    for request in [Request::new("REPLCONF").args(["rdb-only", "1"]), Request::new("REPLCONF").args(["capa", "eof"])] {
        if let Err(error) = expect_ok(op, &mut stream, &request).await {
            tracing::debug!(%error, "an older server");
        }
    }
    send(op, &mut stream, &Request::new("SYNC")).await?;
    let framing = op.in_time("wait for the server's snapshot", BEGIN_DEADLINE, header(&mut stream)).await??;
    let (reader, writer) = tokio::io::duplex(BUFFER);
    let finish = AbortOnDropHandle::new(crate::op::spawn(transfer(stream, writer, framing)));
    Ok(Snapshot { reader, finish })
}

async fn send(op: &Op, stream: &mut UnixStream, request: &Request) -> Result<()> {
    let action = format!("send {request:?}");
    op.until_cancelled(&action, stream.write_all(&request.packed())).await?.action(action)
}

async fn expect_ok(op: &Op, stream: &mut UnixStream, request: &Request) -> Result<()> {
    send(op, stream, request).await?;
    let action = format!("read the answer to {request:?}");
    let answer = op.until_cancelled(&action, tokio::time::timeout(SILENCE, line(stream))).await?;
    let answer = answer.map_err(|_| Error::Timeout { action: action.clone(), after: SILENCE, detail: String::new() })?.action(action)?;
    match answer.strip_prefix('-') {
        Some(words) => Err(Error::Database { action: format!("run {request:?}"), code: None, message: request.scrub(words) }),
        None => Ok(()),
    }
}

/// One line without its end. Read byte by byte: what follows the last one is not text.
async fn line(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            byte if bytes.len() < HEADER => bytes.push(byte),
            _ => return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the server's line is too long")),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned())
}

async fn header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Framing> {
    let action = "wait for the server's snapshot";
    loop {
        let text = tokio::time::timeout(SILENCE, line(stream)).await;
        let text = text.map_err(|_| Error::Timeout { action: action.into(), after: SILENCE, detail: String::new() })?.action(action)?;
        if text.is_empty() {
            // The server is getting ready.
            continue;
        }
        if let Some(words) = text.strip_prefix('-') {
            return Err(Error::Database { action: "read the server's data".into(), code: None, message: words.to_owned() });
        }
        let framing = text.strip_prefix('$').and_then(|text| match text.strip_prefix("EOF:") {
            Some(mark) => mark.as_bytes().try_into().ok().map(Framing::Mark),
            None => text.parse().ok().map(Framing::Length),
        });
        return framing.ok_or_else(|| Error::guest("the server's answer to SYNC is none that a replica gets: is it a Redis?"));
    }
}

async fn transfer(mut stream: impl AsyncRead + Unpin, mut writer: DuplexStream, framing: Framing) -> Result<u64> {
    let (mut held, mut sent) = (Vec::with_capacity(BUFFER), 0_u64);
    let action = || "read the server's data".to_owned();
    loop {
        let end = match &framing {
            Framing::Length(length) => sent + held.len() as u64 >= *length,
            // Nothing comes after it: the server waits for the replica to say that it has everything.
            Framing::Mark(mark) => held.ends_with(mark),
        };
        let ready = match (&framing, end) {
            (Framing::Length(length), _) => usize::try_from(length - sent).unwrap_or(usize::MAX).min(held.len()),
            (Framing::Mark(_), _) => held.len().saturating_sub(MARK),
        };
        writer.write_all(&held[..ready]).await.action("hand over the server's data")?;
        sent += ready as u64;
        held.drain(..ready);
        if end {
            writer.shutdown().await.action("hand over the server's data")?;
            return Ok(sent);
        }
        let read = tokio::time::timeout(SILENCE, stream.read_buf(&mut held)).await;
        let read = read.map_err(|_| Error::Timeout { action: action(), after: SILENCE, detail: String::new() })?.action(action())?;
        if read == 0 {
            return Err(Error::guest(
                "the server broke its snapshot off: its log says why (no memory for the copy, or the storage took nothing for longer than repl-timeout)",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn taken(sent: &[u8]) -> Result<(Vec<u8>, u64)> {
        let (mut near, far) = tokio::io::duplex(7);
        let bytes = sent.to_vec();
        let feeding = tokio::spawn(async move {
            // Whoever has enough hangs up.
            near.write_all(&bytes).await.ok();
        });
        let mut far = far;
        let framing = header(&mut far).await?;
        let (mut reader, writer) = tokio::io::duplex(64);
        let moving = tokio::spawn(transfer(far, writer, framing));
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.unwrap();
        feeding.await.unwrap();
        Ok((got, moving.await.unwrap()?))
    }

    #[tokio::test]
    async fn both_framings_give_the_data_and_nothing_else() {
        let mark = "0123456789abcdef0123456789abcdef01234567";
        // Nearly a mark.
        let data = format!("REDIS0010 and {} so on", mark.trim_end_matches('7'));
        let text = format!("\n\n$EOF:{mark}\r\n{data}{mark}");
        let (got, count) = taken(text.as_bytes()).await.unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), data);
        assert_eq!(count, data.len() as u64);
        assert_eq!(taken(b"$9\r\nREDIS0010").await.unwrap(), (b"REDIS0010".to_vec(), 9));
        assert_eq!(taken(b"$0\r\n").await.unwrap(), (Vec::new(), 0));
    }

    #[tokio::test]
    async fn half_of_it_is_an_error() {
        assert!(taken(b"$10\r\nREDIS0010").await.unwrap_err().to_string().contains("broke its snapshot off"));
        assert!(taken(b"-NOMASTERLINK Can't SYNC\r\n").await.unwrap_err().to_string().contains("NOMASTERLINK"));
        assert!(taken(b"+PONG\r\n").await.is_err());
    }
}
