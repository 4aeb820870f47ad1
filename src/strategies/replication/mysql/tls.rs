//! TLS between a replica and its source: what a source offers, and what a replica holds it to.

use std::net::IpAddr;

use camino::{Utf8Path, Utf8PathBuf};
use openssl::x509::X509;

use super::server::Server;
use super::strategy::MySqlReplication;
use crate::error::{Error, Result, ResultExt};
use crate::model::SourceTls;
use crate::op::Op;
use crate::system::{certificates, files};

/// The source's authority, in the data directory: the server reads it whenever it connects.
const CA_FILE: &str = "replication-source-ca.pem";

/// What a replica verifies of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trust {
    /// The authority its certificate must be of. Without one nothing is verified, and the connection is only encrypted.
    pub(super) ca: Option<Utf8PathBuf>,
    /// The certificate must name the address of the source as well.
    pub(super) names_source: bool,
}

/// What this source offers; `None` when nobody asked for TLS, or the server has no certificate.
///
/// # Errors
/// The server refused, or a file of it cannot be read.
pub(super) async fn offer(strategy: &MySqlReplication, op: &Op, server: &mut Server<'_>) -> Result<Option<SourceTls>> {
    if strategy.host.tls_mode()?.is_none() {
        return Ok(None);
    }
    let data_dir = strategy.host.data_dir();
    let certificate = public_part(data_dir, &server.global(op, "ssl_cert").await?)?;
    if certificate.is_none() {
        tracing::warn!("ssl_mode asks for TLS and the server has no certificate (ssl_cert): replicas follow it in the clear");
        return Ok(None);
    }
    let ca = public_part(data_dir, &server.global(op, "ssl_ca").await?)?;
    if ca.is_none() {
        tracing::warn!("the server names no authority (ssl_ca) to verify its certificate with: replicas encrypt without verifying it");
    }
    Ok(Some(SourceTls { ca, certificate }))
}

/// The certificates in a file the server names, as it does: from the data directory.
fn public_part(data_dir: &Utf8Path, name: &str) -> Result<Option<String>> {
    if name.is_empty() { Ok(None) } else { certificates::public_part(&data_dir.join(name)) }
}

/// What to verify of the source at `host`; its authority is in a file then.
///
/// # Errors
/// The authority is none, or cannot be written.
pub(super) fn trust(data_dir: &Utf8Path, host: &str, tls: Option<&SourceTls>) -> Result<Option<Trust>> {
    let Some(tls) = tls else { return Ok(None) };
    let Some(ca) = &tls.ca else { return Ok(Some(Trust { ca: None, names_source: false })) };
    if X509::stack_from_pem(ca.as_bytes()).map_or(true, |found| found.is_empty()) {
        return Err(Error::bad_request("the source's authority (ca) is no certificate in PEM"));
    }
    let path = data_dir.join(CA_FILE);
    files::write_atomic(&path, ca.as_bytes(), 0o644, None).action("keep the source's authority")?;
    let names_source = tls.certificate.as_deref().is_some_and(|certificate| names(certificate, host));
    if !names_source {
        tracing::info!(host, "the source's certificate does not name its address: any certificate of its authority is taken");
    }
    Ok(Some(Trust { ca: Some(path), names_source }))
}

/// True when a certificate names the address or the name `host`.
fn names(certificate: &str, host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    let octets = address.map(|address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    });
    let Ok(certificate) = X509::from_pem(certificate.as_bytes()) else { return false };
    certificate.subject_alt_names().into_iter().flatten().any(|name| match &octets {
        Some(octets) => name.ipaddress() == Some(octets.as_slice()),
        None => name.dnsname().is_some_and(|name| name.eq_ignore_ascii_case(host)),
    })
}
