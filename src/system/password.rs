//! Passwords that the agent makes.

use openssl::rand::rand_bytes;
use secrecy::SecretString;

use crate::error::{Error, Result};

/// A random password of letters and digits, from OpenSSL's generator, with at least one of each kind (lower, upper, digit).
///
/// # Errors
/// The generator has no entropy.
pub(crate) fn random_password(length: usize) -> Result<SecretString> {
    const KINDS: [&[u8]; 3] = [b"abcdefghijkmnopqrstuvwxyz", b"ABCDEFGHJKLMNPQRSTUVWXYZ", b"23456789"];
    let all: Vec<u8> = KINDS.concat();
    let mut password = String::with_capacity(length);
    while password.len() < length.max(8) {
        let mut bytes = [0_u8; 64];
        rand_bytes(&mut bytes).map_err(|error| Error::guest(format!("the system has no random numbers: {error}")))?;
        // The first three are one of each kind; beyond the last whole multiple of the alphabet a byte would favour its start.
        for byte in bytes {
            let alphabet = KINDS.get(password.len()).copied().unwrap_or(&all);
            let fair = 256 - 256 % alphabet.len();
            if usize::from(byte) < fair && password.len() < length.max(8) {
                password.push(char::from(alphabet[usize::from(byte) % alphabet.len()]));
            }
        }
    }
    Ok(password.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn random_passwords_differ_and_hold_every_kind() {
        let (one, two) = (random_password(36).unwrap(), random_password(36).unwrap());
        assert_ne!(one.expose_secret(), two.expose_secret());
        assert_eq!(one.expose_secret().len(), 36);
        assert!(one.expose_secret().chars().all(|c| c.is_ascii_alphanumeric()));
        assert!(one.expose_secret().chars().any(|c| c.is_ascii_digit()));
    }
}
