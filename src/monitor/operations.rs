//! The register of operations under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{Metrics, OperationView, ProgressView};
use crate::op::Op;
use crate::progress::ProgressSlot;

/// What runs now.
#[derive(Debug)]
pub struct Operations {
    open: Mutex<Open>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    method: &'static str,
    request_id: Option<String>,
    progress: ProgressSlot,
    began: Instant,
}

/// An operation in the register; taken out when dropped.
#[derive(Debug)]
pub struct Running {
    operations: Arc<Operations>,
    number: u64,
}

impl Operations {
    /// Nothing runs. What ends is counted.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Operations { open: Mutex::default(), metrics }
    }

    /// Enters an operation.
    pub fn begin(self: &Arc<Self>, method: &'static str, op: &Op) -> Running {
        let (request_id, progress) = (op.context.request_id.clone(), op.progress.clone());
        let entry = Entry { method, request_id, progress, began: Instant::now() };
        let mut open = self.open.lock().expect("never poisoned: no panics while held");
        let number = open.next;
        open.next += 1;
        open.entries.insert(number, entry);
        Running { operations: Arc::clone(self), number }
    }

    /// All of them, the oldest first.
    pub fn views(&self) -> Vec<OperationView> {
        let open = self.open.lock().expect("never poisoned: no panics while held");
        let view = |entry: &Entry| OperationView {
            method: entry.method.to_owned(),
            request_id: entry.request_id.clone(),
            elapsed: entry.began.elapsed().as_secs_f64(),
            progress: entry.progress.read().map(ProgressView::from),
        };
        open.entries.values().map(view).collect()
    }
}

impl Running {
    /// The operation has ended, well or not.
    pub fn end(self, is_ok: bool) {
        let operations = Arc::clone(&self.operations);
        let open = operations.open.lock().expect("never poisoned: no panics while held");
        let ended = open.entries.get(&self.number).map(|entry| (entry.method, entry.began.elapsed()));
        drop(open);
        if let Some((method, took)) = ended {
            operations.metrics.request(method, if is_ok { "ok" } else { "error" }, took);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.operations.open.lock().expect("never poisoned: no panics while held").entries.remove(&self.number);
    }
}
