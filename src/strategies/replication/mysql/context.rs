//! What a source tells its replicas.

use serde_json::{Map, json};

use super::coordinates::Coordinates;
use super::strategy::{MySqlReplication, Positioning};
use super::{tls, user};
use crate::config::TlsMode;
use crate::error::{Error, Result};
use crate::model::{BackupMetadata, Opaque, ReplicaContext, Source, SourceTls};
use crate::op::Op;
use crate::system::mysql::SqlText;

/// Key of MariaDB's position (Trove's own, since 2024).
pub(super) const GTID_POS: &str = "gtid_pos";
/// Key of what each server wrote last into the log of a MariaDB source (`gtid_binlog_state`), so that a server with more than that is not attached.
pub(super) const GTID_STATE: &str = "gtid_state";
/// Key of everything a MySQL source has done, so that a server with more than that is not attached.
pub(super) const GTID_EXECUTED: &str = "gtid_executed";
/// Keys of a place in the source's log (Kilo's).
pub(super) const LOG_FILE: &str = "log_file";
pub(super) const LOG_POSITION: &str = "log_position";
/// Key of the place in the log of the source before this one that is the same state of the data.
pub(super) const LEFT: &str = "left";

/// Key of the transactions a backup has.
pub(super) const BACKUP_GTID: &str = "backup_gtid";

/// See [`crate::strategies::replication::ReplicationStrategy::place_of_backup`]. A copy of the server's files has a note of it as well, and a
/// dump of MySQL its GTIDs; a dump of MariaDB only says where it is in the log.
pub(super) async fn of_backup(strategy: &MySqlReplication, op: &Op, metadata: &BackupMetadata) -> Result<Opaque> {
    let value = |key: &str| metadata.get(key).filter(|text| !text.is_empty());
    let place = || Some(Coordinates { file: value("binlog_file")?.clone(), place: value("binlog_position")?.parse().ok()? });
    let mut told = Map::new();
    if strategy.positioning == Positioning::Binlog {
        if let Some(place) = place() {
            told.insert(LOG_FILE.into(), json!(place.file));
            told.insert(LOG_POSITION.into(), json!(place.place));
        }
        return Ok(Opaque(told));
    }
    if let Some(gtid) = value("gtid") {
        told.insert(BACKUP_GTID.into(), json!(gtid));
    } else if let Some(place) = place() {
        let mut server = strategy.server(op).await?;
        if server.dialect.0.is_mariadb() {
            let sql = SqlText::new("SELECT BINLOG_GTID_POS(").literal(&place.file).raw(", ").number(place.place).raw(")");
            if let Some(gtid) = server.column(op, "ask which GTID a place in the log is", &sql).await?.pop() {
                told.insert(BACKUP_GTID.into(), json!(gtid));
            }
        }
        server.close().await;
    }
    Ok(Opaque(told))
}

/// See [`crate::strategies::replication::ReplicationStrategy::context`].
pub(super) async fn of(strategy: &MySqlReplication, op: &Op) -> Result<ReplicaContext> {
    let mut server = strategy.server(op).await?;
    if !server.is_on(op, "log_bin").await? {
        return Err(Error::guest("the server writes no binary log: nobody can follow it. enable_as_master makes it write one"));
    }
    let mut memory = strategy.memory()?;
    let tls = tls::offer(strategy, op, &mut server).await?;
    let must_use_tls = tls.is_some() && strategy.host.tls_mode()? != Some(TlsMode::Basic);
    let user = user::ensure(op, &*strategy.host, &mut server, &mut memory, must_use_tls).await?;
    let mut position = Map::new();
    match strategy.positioning {
        Positioning::Gtid if server.dialect.0.is_mariadb() => {
            position.insert(GTID_POS.into(), json!(server.position(op, "gtid_binlog_pos").await?.to_string()));
            position.insert(GTID_STATE.into(), json!(server.position(op, "gtid_binlog_state").await?.to_string()));
        }
        Positioning::Gtid => {
            position.insert(GTID_EXECUTED.into(), json!(server.executed(op).await?.to_string()));
        }
        Positioning::Binlog => {
            // Where its own log was when it left its last source; who left that one at the same place goes on here.
            if let Some(handover) = &memory.handover {
                position.insert(LOG_FILE.into(), json!(handover.own.file));
                position.insert(LOG_POSITION.into(), json!(handover.own.place));
                position.insert(LEFT.into(), json!({"source": handover.source, "at": handover.left.to_string()}));
            }
        }
    }
    let port = server.global(op, "port").await?.parse().map_err(|_| Error::guest("the server does not say which port it listens on"))?;
    server.close().await;
    let extra = tls.map(|tls| (SourceTls::KEY.to_owned(), json!(tls))).into_iter().collect();
    let source = Source { host: strategy.host.address()?, port, extra: Opaque(extra) };
    Ok(ReplicaContext { source, user: Some(user), log_position: Opaque(position) })
}
