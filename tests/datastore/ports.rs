//! Ports for the servers of tests.

use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the kernel gives to clients (32768 and up): while a server is away, a client that tries again and again would sooner or later be
/// given its port, and be connected to itself. Redis clusters have a second port 10000 above: that is below them, too, and no test's first.
const FIRST: u16 = 10_200;
const COUNT: u16 = 9_800;

static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(uuid::Uuid::new_v4().as_fields().1 % COUNT));

/// A port of nobody, and given to no other test of this process: between the look at it and the server's start others look, too.
pub(crate) fn free_port() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("0.0.0.0", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok();
    let ports = std::iter::repeat_with(|| FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT);
    ports.take(usize::from(COUNT)).find(|port| is_free(*port)).unwrap()
}
