//! Certificates in files of PEM.

use camino::Utf8Path;
use openssl::x509::X509;

use super::files;
use crate::error::{Error, Result};

/// The certificates in a file, and not a private key that is in it as well. `None` when there is no such file, or no certificate in it.
///
/// # Errors
/// The file cannot be read, or what it calls a certificate is none.
pub fn public_part(path: &Utf8Path) -> Result<Option<String>> {
    let Some(text) = files::read_optional(path)? else { return Ok(None) };
    let pem = X509::stack_from_pem(text.as_bytes())
        .and_then(|found| found.iter().map(|one| one.to_pem()).collect::<std::result::Result<Vec<_>, _>>())
        .map_err(|error| Error::guest(format!("{path} has no certificates that can be read: {error}")))?
        .concat();
    Ok(String::from_utf8(pem).ok().filter(|pem| !pem.is_empty()))
}
