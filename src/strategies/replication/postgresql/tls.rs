//! TLS between a replica and its source: what a source offers. What a replica holds it to is the same for all datastores ([`Trust`]).

use std::net::IpAddr;

use camino::Utf8Path;

use super::strategy::PostgreSqlReplication;
use crate::error::Result;
use crate::model::SourceTls;
use crate::op::Op;
use crate::strategies::replication::Trust;
use crate::strategies::replication::source_tls::{authorities, names_source};
use crate::system::certificates;
use crate::system::postgresql::{Encryption, SqlText};

/// The first version whose programs find an address among the names of a certificate (release notes of PostgreSQL 15, "libpq").
const FINDS_ADDRESSES: u16 = 15;

/// What this source offers; `None` when nobody asked for TLS, or the server has no certificate.
///
/// # Errors
/// The server refused, or a file of it cannot be read.
pub(super) async fn offer(strategy: &PostgreSqlReplication, op: &Op) -> Result<Option<SourceTls>> {
    if strategy.host.tls_mode()?.is_none() {
        return Ok(None);
    }
    let sql = SqlText::new("SELECT current_setting('ssl'), current_setting('ssl_cert_file'), current_setting('ssl_ca_file')");
    let mut rows = strategy.session(op).await?.rows(op, "ask which certificates the server has", &sql).await?;
    let mut settings = rows.pop().unwrap_or_default().into_iter().map(Option::unwrap_or_default);
    let [is_on, certificate, ca] = [(); 3].map(|()| settings.next().unwrap_or_default());
    let data_dir = strategy.host.data_dir();
    let certificate = if is_on == "on" { public_part(data_dir, &certificate)? } else { None };
    if certificate.is_none() {
        tracing::warn!("ssl_mode asks for TLS and the server has no certificate (ssl_cert_file): replicas follow it in the clear");
        return Ok(None);
    }
    let ca = public_part(data_dir, &ca)?;
    if ca.is_none() {
        tracing::warn!("the server names no authority (ssl_ca_file) to verify its certificate with: replicas encrypt without verifying it");
    }
    Ok(Some(SourceTls { ca, certificate }))
}

/// The certificates in a file the server names, as it does: from the data directory.
fn public_part(data_dir: &Utf8Path, name: &str) -> Result<Option<String>> {
    if name.is_empty() { Ok(None) } else { certificates::public_part(&data_dir.join(name)) }
}

/// Of the agent's own sessions with a source. One that told of no TLS may have some all the same, and want it of everybody.
///
/// # Errors
/// Its authority is none.
pub(super) fn encryption(host: &str, tls: Option<&SourceTls>) -> Result<Encryption> {
    match tls {
        None => Encryption::preferred(),
        Some(tls) => Encryption::required(authorities(tls)?, names_source(tls, host)),
    }
}

/// The same for the server's programs, which are of this `version`.
///
/// # Errors
/// The authority is none, or cannot be written.
pub(super) fn trust(file: &Utf8Path, host: &str, tls: &SourceTls, version: u16) -> Result<Trust> {
    let trust = Trust::keep(file, host, tls)?;
    let can_tell = version >= FINDS_ADDRESSES || host.parse::<IpAddr>().is_err();
    Ok(Trust { names_source: trust.names_source && can_tell, ..trust })
}
