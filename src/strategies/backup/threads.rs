//! Threads for work that takes a processor for long: the runtime's own are few.

use crate::error::{Result, ResultExt};

/// Of nice(1), on top of the agent's own: the last place. What the database leaves is mostly enough, since the stream needs a quarter of the
/// processor time of `gzip | openssl`; at 10 its clients still felt a backup (docs/benchmarks.md).
const NICER: i32 = 19;

/// A thread of its own. It gets no handle: it ends with the queues it works on.
pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    // What it logs is of the operation that began it.
    let span = tracing::Span::current();
    let work = move || span.in_scope(work);
    std::thread::Builder::new().name(name.to_owned()).spawn(work).action(format!("start the thread {name}")).map(drop)
}

/// Like [`spawn`], with a low priority: the database goes first.
pub(super) fn spawn_low(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    spawn(name, move || {
        // On Linux this is the calling thread alone. Without it the backup is no less right.
        rustix::process::nice(NICER).ok();
        work();
    })
}
