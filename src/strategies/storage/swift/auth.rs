//! Whose token a request carries.

use secrecy::SecretString;

use super::keystone::Keystone;
use crate::error::Result;
use crate::op::Op;

/// What to do about a token of a request that is not valid any more.
pub(super) const ADVICE: &str = "this is the token of the controller's request, which cannot be renewed: let tokens live longer than a backup \
     ([token] expiration of Keystone), or give the guest an account of its own ([backup_credentials])";

/// Where tokens come from.
#[derive(Debug)]
pub(super) enum Auth {
    /// The request's own; it ends when it ends.
    Request(SecretString),
    /// An account's, renewed before it ends.
    Keystone(Box<Keystone>),
}

impl Auth {
    /// A token that is valid as far as is known.
    pub(super) async fn token(&self, op: &Op) -> Result<SecretString> {
        match self {
            Auth::Request(token) => Ok(token.clone()),
            Auth::Keystone(keystone) => keystone.token(op).await,
        }
    }

    /// Swift refused this token: true when the next one may be another.
    pub(super) async fn refused(&self, token: &SecretString) -> bool {
        match self {
            Auth::Request(_) => false,
            Auth::Keystone(keystone) => keystone.forget(token).await,
        }
    }
}
