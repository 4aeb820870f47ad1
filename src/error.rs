//! The one error type of the agent, and what Trove calls each of its cases.
//!
//! Every variant has data, a message that tells an operator what to do, and a Trove exception class
//! ([`Error::trove_class`]). Errors are logged once, where they are consumed; elsewhere they only gain context
//! ([`ResultExt::action`]).

use std::io;
use std::time::Duration;

/// `Result` with the agent's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong while the agent serves a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The datastore, or this build of its manager, does not have the operation.
    #[error("The '{operation}' operation is not supported for the '{datastore}' datastore.")]
    NotSupported {
        /// RPC method name, as the controller sent it.
        operation: String,
        /// `datastore_manager` of this guest.
        datastore: String,
    },
    /// The method is not part of the guest's RPC interface.
    #[error("Endpoint does not support RPC method {method}")]
    NoSuchMethod {
        /// Method name as received.
        method: String,
    },
    /// The request asks for an RPC version (or namespace) this agent does not speak.
    #[error("Endpoint does not support RPC version {version}. Attempted method: {method}")]
    UnsupportedVersion {
        /// Version as received.
        version: String,
        /// Method name as received.
        method: String,
    },
    /// The arguments of a request do not have the shape the method needs.
    #[error("bad arguments for {method}: {reason}")]
    BadArguments {
        /// Method name as received.
        method: String,
        /// Which argument and why; never the value.
        reason: String,
    },
    /// The caller asked for something that makes no sense for this instance.
    #[error("{message}")]
    BadRequest {
        /// Full sentence for the caller.
        message: String,
    },
    /// A value breaks a rule (name, host, character set, ...). Python raised `ValueError`.
    #[error("{message}")]
    InvalidValue {
        /// Full sentence for the caller; must not contain a secret.
        message: String,
    },
    /// A user, database, log or module the caller named does not exist.
    #[error("{message}")]
    NotFound {
        /// Full sentence for the caller.
        message: String,
    },
    /// A log that only administrators may use.
    #[error("You must be admin to show log '{log}'.")]
    LogAccessForbidden {
        /// Its name.
        log: String,
    },
    /// Source and replica follow different strategies.
    #[error("Instance with replication strategy {replica} cannot replicate from instance with replication strategy {source_strategy}.")]
    IncompatibleReplication {
        /// This guest's.
        replica: String,
        /// The source's.
        source_strategy: String,
    },
    /// The data of a source do not fit onto the replica's volume.
    #[error("The target instance has only {volume}G free, but the replication snapshot contains {dataset}G of data.")]
    NoSpaceForReplica {
        /// GiB of the volume.
        volume: f64,
        /// GiB in use on the source.
        dataset: f64,
    },
    /// A module is for a driver this guest does not have.
    #[error("No driver implemented for module type '{kind}'")]
    ModuleTypeNotFound {
        /// The module's type.
        kind: String,
    },
    /// A module is not for this guest.
    #[error("The module is invalid: {reason}")]
    ModuleInvalid {
        /// Why.
        reason: String,
    },
    /// The message could not be decrypted with the instance key, or was not encrypted at all.
    #[error("{message}")]
    Crypto {
        /// What did not decrypt; never the text.
        message: String,
    },
    /// A system call or file operation failed.
    #[error("failed to {action}: {source}")]
    Io {
        /// Present-tense verb and object, for example `read /etc/fstab`.
        action: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A program ended with a status other than success.
    #[error("{program} failed ({status}){}", tail(.stderr))]
    Command {
        /// File name of the program, without arguments.
        program: String,
        /// For example `exit status: 1` or `signal: 9`.
        status: String,
        /// The end of what it wrote to standard error, secrets removed.
        stderr: String,
    },
    /// The database refused or dropped a statement.
    #[error("failed to {action}: the database says: {message}{}", number(.code))]
    Database {
        /// Present-tense verb and object.
        action: String,
        /// The server's error number, if the server itself answered.
        code: Option<u16>,
        /// The server's own words, or the driver's.
        message: String,
    },
    /// A wait reached its deadline.
    #[error("timed out after {} s: {action}{}", .after.as_secs_f32(), tail(.detail))]
    Timeout {
        /// What was waited for.
        action: String,
        /// How long.
        after: Duration,
        /// How far it got, or empty.
        detail: String,
    },
    /// The agent is shutting down, or the operation was cancelled.
    #[error("cancelled: {action}")]
    Cancelled {
        /// What was being done.
        action: String,
    },
    /// The agent ended in the middle of an operation and was started again.
    #[error("the guest agent was restarted in the middle of '{method}'; {advice}")]
    Interrupted {
        /// The RPC method that was running.
        method: String,
        /// What the operator or caller can do.
        advice: String,
    },
    /// The object store refused a request, broke off, or has something else than was stored.
    #[error("failed to {action}: {reason}")]
    Storage {
        /// Present-tense verb and object, for example `upload segment 3`.
        action: String,
        /// What the store said, or what is wrong with what it has; never a token.
        reason: String,
        /// Another attempt may succeed: the store is busy or the connection broke.
        transient: bool,
    },
    /// Something on the guest is not as the operation needs it.
    #[error("{message}")]
    Guest {
        /// Full sentence: what is wrong and what to do.
        message: String,
    },
    /// Another error, with what was being done when it happened.
    #[error("failed to {action}: {source}")]
    During {
        /// Present-tense verb and object.
        action: String,
        /// The error itself; its class decides what the caller sees.
        #[source]
        source: Box<Error>,
    },
}

fn tail(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {}", text.trim_end()) }
}

fn number(code: &Option<u16>) -> String {
    code.map_or_else(String::new, |code| format!(" (error {code})"))
}

/// Module and class name of a Python exception, as oslo.messaging carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExceptionClass {
    /// Python module. Only `trove.common.exception` and the builtins are rehydrated by the client
    /// (oslo_messaging `_drivers/common.py: deserialize_remote_exception`).
    pub module: &'static str,
    /// Class name inside the module.
    pub class: &'static str,
}

const TROVE: &str = "trove.common.exception";
const DISPATCHER: &str = "oslo_messaging.rpc.dispatcher";
const BUILTINS: &str = "builtins";

impl Error {
    /// The agent's end cut an operation short that its caller may repeat.
    pub fn interrupted(method: &str) -> Self {
        Error::Interrupted { method: method.to_owned(), advice: "look at the instance and repeat the call".to_owned() }
    }

    /// The exception class the Python agent would have raised in this case.
    pub fn trove_class(&self) -> ExceptionClass {
        let (module, class) = match self {
            Error::NotSupported { .. } => (TROVE, "DatastoreOperationNotSupported"),
            Error::NoSuchMethod { .. } => (DISPATCHER, "NoSuchMethod"),
            Error::UnsupportedVersion { .. } => (DISPATCHER, "UnsupportedVersion"),
            Error::BadArguments { .. } => (BUILTINS, "TypeError"),
            Error::BadRequest { .. } => (TROVE, "BadRequest"),
            Error::InvalidValue { .. } => (BUILTINS, "ValueError"),
            Error::NotFound { .. } => (TROVE, "NotFound"),
            Error::ModuleTypeNotFound { .. } => (TROVE, "ModuleTypeNotFound"),
            Error::ModuleInvalid { .. } => (TROVE, "ModuleInvalid"),
            Error::LogAccessForbidden { .. } => (TROVE, "LogAccessForbidden"),
            Error::IncompatibleReplication { .. } => (TROVE, "IncompatibleReplicationStrategy"),
            Error::NoSpaceForReplica { .. } => (TROVE, "InsufficientSpaceForReplica"),
            Error::Io { .. }
            | Error::Command { .. }
            | Error::Database { .. }
            | Error::Cancelled { .. }
            | Error::Interrupted { .. }
            | Error::Crypto { .. }
            | Error::Storage { .. }
            | Error::Guest { .. } => (TROVE, "GuestError"),
            Error::Timeout { .. } => (TROVE, "PollTimeOut"),
            Error::During { source, .. } => return source.trove_class(),
        };
        ExceptionClass { module, class }
    }

    /// The server's error number, if a database server refused a statement.
    pub fn database_code(&self) -> Option<u16> {
        match self {
            Error::Database { code, .. } => *code,
            Error::During { source, .. } => source.database_code(),
            _ => None,
        }
    }

    /// True for a failure of the object store that another attempt may mend.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Storage { transient, .. } => *transient,
            Error::During { source, .. } => source.is_transient(),
            _ => false,
        }
    }

    /// A sentence about the guest's own state, for conditions no other variant names.
    pub fn guest(message: impl Into<String>) -> Self {
        Error::Guest { message: message.into() }
    }

    /// What the caller named, for example `User u1@%`, does not exist.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Error::NotFound { message: format!("{what} cannot be found on the instance.") }
    }

    /// The method is not part of the guest's RPC interface.
    pub fn no_such_method(method: &str) -> Self {
        Error::NoSuchMethod { method: method.chars().take(100).collect() }
    }

    /// The datastore has no such operation.
    pub fn not_supported(operation: impl Into<String>, datastore: impl Into<String>) -> Self {
        Error::NotSupported { operation: operation.into(), datastore: datastore.into() }
    }

    /// A rule about a value was broken (Python's `ValueError`).
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::InvalidValue { message: message.into() }
    }

    /// The request is understood and refused (Trove's `BadRequest`).
    pub fn bad_request(message: impl Into<String>) -> Self {
        Error::BadRequest { message: message.into() }
    }
}

/// Adds what was being done to an error: a present-tense verb and an object, as in `read os_admin credentials`.
pub trait ResultExt<T> {
    /// Wraps the error with `action`.
    ///
    /// # Errors
    /// The same failure, with context.
    fn action(self, action: impl Into<String>) -> Result<T>;
}

impl<T> ResultExt<T> for std::result::Result<T, io::Error> {
    fn action(self, action: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io { action: action.into(), source })
    }
}

impl<T> ResultExt<T> for std::result::Result<T, nix::Error> {
    fn action(self, action: impl Into<String>) -> Result<T> {
        self.map_err(|errno| Error::Io { action: action.into(), source: errno.into() })
    }
}

impl<T> ResultExt<T> for Result<T> {
    fn action(self, action: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::During { action: action.into(), source: Box::new(source) })
    }
}
