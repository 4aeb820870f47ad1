//! TLS between a replica and its source: what a source offers, and what a replica holds it to.

use camino::Utf8Path;

use super::server::Server;
use super::strategy::MySqlReplication;
use crate::error::Result;
use crate::model::SourceTls;
use crate::op::Op;
use crate::strategies::replication::Trust;
use crate::system::certificates;

/// The source's authority, in the data directory: the server reads it whenever it connects.
const CA_FILE: &str = "replication-source-ca.pem";

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
    tls.map(|tls| Trust::keep(&data_dir.join(CA_FILE), host, tls)).transpose()
}
