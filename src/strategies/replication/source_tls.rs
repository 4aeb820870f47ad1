//! What a replica holds its source to, of the TLS that it has told it offers ([`SourceTls`]).

use std::net::IpAddr;

use camino::{Utf8Path, Utf8PathBuf};
use openssl::x509::X509;

use crate::error::{Error, Result, ResultExt};
use crate::model::SourceTls;
use crate::system::files;

/// What a replica's server verifies of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// File of the authority its certificate must be of. Without one nothing is verified, and the connection is only encrypted.
    pub ca: Option<Utf8PathBuf>,
    /// The certificate must name the address of the source as well.
    pub names_source: bool,
}

impl Trust {
    /// What to verify of the source at `host`; its authority is in `file` then. Without one, there is no such file.
    ///
    /// # Errors
    /// The authority is none, or cannot be written.
    pub(super) fn keep(file: &Utf8Path, host: &str, tls: &SourceTls) -> Result<Trust> {
        let authorities = authorities(tls)?;
        let (Some(ca), false) = (&tls.ca, authorities.is_empty()) else {
            files::remove(file)?;
            return Ok(Trust { ca: None, names_source: false });
        };
        files::write_atomic(file, ca.as_bytes(), 0o644, None).action("keep the source's authority")?;
        let names_source = names_source(tls, host);
        if !names_source {
            tracing::info!(host, "the source's certificate does not name its address: any certificate of its authority is taken");
        }
        Ok(Trust { ca: Some(file.to_owned()), names_source })
    }
}

/// The authorities a source has told; none where it names none.
///
/// # Errors
/// What it has told is no certificate.
pub(super) fn authorities(tls: &SourceTls) -> Result<Vec<X509>> {
    let Some(ca) = &tls.ca else { return Ok(Vec::new()) };
    let found = X509::stack_from_pem(ca.as_bytes()).unwrap_or_default();
    if found.is_empty() { Err(Error::bad_request("the source's authority (ca) is no certificate in PEM")) } else { Ok(found) }
}

/// True when the certificate of a source names the address or the name `host`.
pub(super) fn names_source(tls: &SourceTls, host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    let octets = address.map(|address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    });
    let certificate = tls.certificate.as_deref().and_then(|pem| X509::from_pem(pem.as_bytes()).ok());
    let names = certificate.and_then(|certificate| certificate.subject_alt_names());
    names.into_iter().flatten().any(|name| match &octets {
        Some(octets) => name.ipaddress() == Some(octets.as_slice()),
        None => name.dnsname().is_some_and(|name| name.eq_ignore_ascii_case(host)),
    })
}
