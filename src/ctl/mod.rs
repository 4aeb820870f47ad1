//! `trove-guestctl`: what an operator or developer has in hand without a controller.

mod bar;
mod call;
mod cli;
mod doctor;
mod guest;
mod output;
mod pages;
mod remote;
mod status;
mod verify;
mod watch;

pub use cli::{Cli, run};
