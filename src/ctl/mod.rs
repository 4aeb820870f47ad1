//! `trove-guestctl`: what an operator or developer has in hand without a controller.

mod call;
mod cli;
mod remote;
mod watch;

pub use cli::{Cli, run};
