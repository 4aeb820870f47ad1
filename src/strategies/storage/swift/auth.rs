//! Whose token a request carries.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use secrecy::SecretString;

use super::keystone::Keystone;
use crate::error::Result;
use crate::op::Op;

/// What to do about a token of a request that is not valid any more.
pub(super) const ADVICE: &str = "this is the token of the controller's request, which cannot be renewed: let tokens live longer than a backup \
     ([token] expiration of Keystone), or give the guest an account of its own ([backup_credentials])";

/// A token that was good is refused so often before it counts as ended: Swift says 401, too, when Keystone was too busy to tell it about the token.
const FORGIVEN: u32 = 3;
/// Before a refused token is tried again.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Where tokens come from.
#[derive(Debug)]
pub(super) enum Auth {
    /// The request's own; it ends when it ends.
    Request(RequestToken),
    /// An account's, renewed before it ends.
    Keystone(Box<Keystone>),
}

/// The token of a request, and how much it is trusted.
#[derive(Debug)]
pub(super) struct RequestToken {
    token: SecretString,
    /// Refusals in a row that are still forgiven.
    forgiven: AtomicU32,
}

/// What a refusal comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The next attempt has another token.
    Renewed,
    /// The next attempt has the same one, and may be luckier after a [`PAUSE`].
    Doubted,
    /// No other attempt helps.
    Ended,
}

impl Auth {
    /// With the token of a request.
    pub(super) fn request(token: SecretString) -> Auth {
        Auth::Request(RequestToken { token, forgiven: AtomicU32::new(0) })
    }

    /// A token that is valid as far as is known.
    pub(super) async fn token(&self, op: &Op) -> Result<SecretString> {
        match self {
            Auth::Request(request) => Ok(request.token.clone()),
            Auth::Keystone(keystone) => keystone.token(op).await,
        }
    }

    /// Swift took the token.
    pub(super) fn accepted(&self) {
        if let Auth::Request(request) = self {
            request.forgiven.store(FORGIVEN, Ordering::Relaxed);
        }
    }

    /// Swift refused this token.
    pub(super) async fn refused(&self, token: &SecretString) -> Refused {
        match self {
            Auth::Request(request) => {
                let one_less = |left: u32| left.checked_sub(1);
                match request.forgiven.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
                    Ok(_) => Refused::Doubted,
                    Err(_) => Refused::Ended,
                }
            }
            Auth::Keystone(keystone) if keystone.forget(token).await => Refused::Renewed,
            Auth::Keystone(_) => Refused::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_that_was_good_is_doubted_before_it_has_ended() {
        let token = SecretString::from("t");
        let auth = Auth::request(token.clone());
        assert_eq!(auth.refused(&token).await, Refused::Ended, "it never was good");
        auth.accepted();
        for _ in 0..FORGIVEN {
            assert_eq!(auth.refused(&token).await, Refused::Doubted);
        }
        assert_eq!(auth.refused(&token).await, Refused::Ended);
        auth.accepted();
        assert_eq!(auth.refused(&token).await, Refused::Doubted, "it was good again");
    }
}
