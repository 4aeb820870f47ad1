//! [`Greeting`]: what a database server answers to somebody who asks how it is.

use crate::error::Error;

/// What a server answered.
#[derive(Debug)]
pub enum Greeting {
    /// It serves.
    Good,
    /// It is starting, loading its data, shutting down, or something keeps it busy: it serves nobody yet, or any more.
    Busy(Error),
    /// It does not let the agent in, or refuses for another reason.
    Refused(Error),
}
