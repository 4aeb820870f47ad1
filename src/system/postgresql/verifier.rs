//! What the server keeps of a password.

use secrecy::{ExposeSecret, SecretString};

/// The SCRAM-SHA-256 verifier of a password (RFC 5803), with a random salt. Statements carry it in the password's place: no log of the server can have the
/// password, whatever `log_statement` says, and no `password_encryption` makes less of it.
pub fn scram_verifier(password: &SecretString) -> SecretString {
    postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes()).into()
}
