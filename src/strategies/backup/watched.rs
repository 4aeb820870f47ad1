//! [`watched`]: what a tool writes, with its first and last bytes kept to look at when it has ended.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// What is kept of the beginning: a dump says there which server made it, and at which position.
const HEAD: usize = 16 << 10;
/// What is kept of the end: a dump says there that it is whole.
const TAIL: usize = 256;

#[derive(Debug, Default)]
struct Ends {
    head: Vec<u8>,
    tail: VecDeque<u8>,
}

impl Ends {
    fn see(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        let last = &bytes[bytes.len().saturating_sub(TAIL)..];
        let surplus = (self.tail.len() + last.len()).saturating_sub(TAIL);
        self.tail.drain(..surplus);
        self.tail.extend(last);
    }
}

/// Sees what was read so far.
#[derive(Debug, Clone)]
pub(super) struct Watcher(Arc<Mutex<Ends>>);

impl Watcher {
    /// The first 16 KiB.
    pub(super) fn head(&self) -> String {
        let ends = self.0.lock().expect("never poisoned: no panics while held");
        String::from_utf8_lossy(&ends.head).into_owned()
    }

    /// The last 256 bytes.
    pub(super) fn tail(&self) -> String {
        let ends = self.0.lock().expect("never poisoned: no panics while held");
        String::from_utf8_lossy(&ends.tail.iter().copied().collect::<Vec<_>>()).into_owned()
    }
}

/// A reader that is watched.
struct Watched<R> {
    inner: R,
    ends: Arc<Mutex<Ends>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        self.ends.lock().expect("never poisoned: no panics while held").see(new);
        polled
    }
}

/// `reader`, watched.
pub(super) fn watched(reader: impl AsyncRead + Send + Unpin + 'static) -> (Pin<Box<dyn AsyncRead + Send>>, Watcher) {
    let ends = Arc::<Mutex<Ends>>::default();
    (Box::pin(Watched { inner: reader, ends: Arc::clone(&ends) }), Watcher(ends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn both_ends_are_kept() {
        let text: Vec<u8> = (0..40_000_u32).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
        let (mut reader, watcher) = watched(std::io::Cursor::new(text.clone()));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, text);
        assert_eq!(watcher.head().as_bytes(), &text[..HEAD]);
        assert_eq!(watcher.tail().as_bytes(), &text[text.len() - TAIL..]);
    }
}
