//! Where a replica starts: found out, and checked, before anything changes.

use super::context::{BACKUP_GTID, GTID_EXECUTED, GTID_POS, GTID_STATE, LEFT, LOG_FILE, LOG_POSITION};
use super::coordinates::{BackupPlace, Coordinates};
use super::gtid_position::GtidPosition;
use super::gtid_set::GtidSet;
use super::memory::Memory;
use super::server::Server;
use super::strategy::{MySqlReplication, Positioning};
use crate::error::{Error, Result};
use crate::model::{Opaque, ReplicaInfo};
use crate::op::Op;
use crate::system::mysql::SqlText;

/// What must be done before the source is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing: it goes on where it stands.
    Here,
    /// It was made from a backup, which has these transactions and no others.
    Set(GtidSet),
    /// Likewise on MariaDB; its own log goes.
    Position(GtidPosition),
    /// MariaDB: what it wrote as a source counts as replicated.
    Reached(GtidPosition),
    /// A place in the source's log.
    Place(Coordinates),
}

/// Where to start.
///
/// # Errors
/// Nobody knows, or this server has what the source has not.
pub(super) async fn find(strategy: &MySqlReplication, op: &Op, server: &mut Server<'_>, info: &ReplicaInfo) -> Result<Start> {
    let source = &info.context.source;
    let following = server.following(op).await?;
    // An attempt that was cut off, or the same call again.
    let named = following.as_ref().is_some_and(|following| following.host == source.host && following.port == source.port);
    match (strategy.positioning, info.dataset.is_some()) {
        (Positioning::Gtid, true) if server.dialect.0.is_mariadb() => {
            restored_position(strategy, op, server, &info.context.log_position).await
        }
        (Positioning::Gtid, true) => restored_set(strategy, op, server, info).await,
        (Positioning::Gtid, false) if server.dialect.0.is_mariadb() => reached_position(op, server, &info.context.log_position).await,
        (Positioning::Gtid, false) => reached_set(op, server, &info.context.log_position).await,
        (Positioning::Binlog, _) if named => Ok(Start::Here),
        (Positioning::Binlog, true) => restored_place(strategy, &info.context.log_position),
        (Positioning::Binlog, false) => same_place(op, server, &strategy.memory()?, &info.context.log_position).await,
    }
}

fn no_note(what: &str) -> Error {
    Error::guest(format!(
        "the backup this instance was restored from does not say {what} it has: the replica cannot start. Was the binary log of the source on?"
    ))
}

async fn restored_set(strategy: &MySqlReplication, op: &Op, server: &mut Server<'_>, info: &ReplicaInfo) -> Result<Start> {
    let executed = server.executed(op).await?;
    let own = executed.of(&server.identity(op).await?);
    let told = info.dataset.as_ref().and_then(|dataset| dataset.log_executed_gtid_set.clone()).filter(|text| !text.trim().is_empty());
    let kept = || info.context.log_position.text(BACKUP_GTID).map(str::to_owned);
    let noted = || Ok::<_, Error>(BackupPlace::read(strategy.host.data_dir())?.and_then(|place| place.gtid).or_else(kept));
    let set = match told.map_or_else(noted, |told| Ok(Some(told)))? {
        Some(text) => GtidSet::parse(&text)?,
        // A dump brings its GTIDs itself: what this server has and has not done itself.
        None => executed.minus(&own),
    };
    if set.is_empty() {
        return Err(no_note("which transactions"));
    }
    // Done already, by an attempt that was cut off or failed later.
    let done = own.is_empty() && set.minus(&executed).is_empty();
    Ok(if done { Start::Here } else { Start::Set(set) })
}

async fn restored_position(strategy: &MySqlReplication, op: &Op, server: &mut Server<'_>, told: &Opaque) -> Result<Start> {
    let reached = server.position(op, "gtid_slave_pos").await?;
    let own = server.own(op).await?.map(|own| own.text()).unwrap_or_default();
    let position = match (BackupPlace::read(strategy.host.data_dir())?, told.text(BACKUP_GTID)) {
        // A source that had no transaction yet.
        (Some(place), _) if place.coordinates.is_some() => GtidPosition::parse(&place.gtid.unwrap_or_default())?,
        (_, Some(told)) => GtidPosition::parse(told)?,
        _ if !reached.is_empty() => reached.clone(),
        _ => return Err(no_note("which GTID")),
    };
    let done = own.is_empty() && position.beyond(&reached).is_empty();
    Ok(if done { Start::Here } else { Start::Position(position) })
}

fn restored_place(strategy: &MySqlReplication, position: &Opaque) -> Result<Start> {
    let noted = BackupPlace::read(strategy.host.data_dir())?.and_then(|place| place.coordinates);
    noted.or_else(|| place_in(position)).map(Start::Place).ok_or_else(|| no_note("which part of the source's binary log"))
}

/// `log_file` and `log_position`.
fn place_in(position: &Opaque) -> Option<Coordinates> {
    let place = position.0.get(LOG_POSITION)?;
    let place = place.as_u64().or_else(|| place.as_str()?.parse().ok())?;
    Some(Coordinates { file: position.text(LOG_FILE)?.to_owned(), place })
}

fn diverged(more: &str) -> Error {
    Error::guest(format!(
        "this instance has transactions its new source does not have, and would never be the same: {more}. Save what is needed of them, and \
         make the replica anew from a backup of the source"
    ))
}

async fn reached_set(op: &Op, server: &mut Server<'_>, position: &Opaque) -> Result<Start> {
    // An agent of Trove's own does not tell.
    if let Some(there) = position.text(GTID_EXECUTED) {
        let more = server.executed(op).await?.minus(&GtidSet::parse(there)?);
        if !more.is_empty() {
            return Err(diverged(&more.to_string()));
        }
    }
    Ok(Start::Here)
}

async fn reached_position(op: &Op, server: &mut Server<'_>, position: &Opaque) -> Result<Start> {
    let here = server.position(op, "gtid_current_pos").await?;
    if let Some(there) = position.text(GTID_POS) {
        let more = here.unknown_to(&GtidPosition::parse(there)?);
        if !more.is_empty() {
            return Err(diverged(&more.to_string()));
        }
    }
    // The new source itself says so, too, but only a moment after its answer to the replica that connects.
    if let Some(state) = position.text(GTID_STATE) {
        let more = here.missing_in(&GtidPosition::parse(state)?);
        if !more.is_empty() {
            return Err(diverged(&more.to_string()));
        }
    }
    let done = server.position(op, "gtid_slave_pos").await? == here;
    Ok(if done { Start::Here } else { Start::Reached(here) })
}

/// Both left the same source at the same place: what this one lacks begins where the new source was then, in its own log.
async fn same_place(op: &Op, server: &mut Server<'_>, memory: &Memory, position: &Opaque) -> Result<Start> {
    let left = position.0.get(LEFT).and_then(|left| Some((left.get("source")?.as_str()?, left.get("at")?.as_str()?)));
    let (Some((source, at)), Some(place)) = (left, place_in(position)) else {
        return Err(Error::guest(
            "the new source does not say where in its binary log this instance is: without GTIDs it can only be made anew from a backup",
        ));
    };
    let at = Coordinates::parse(at)?;
    let refuse = |here: &str| {
        let words = format!(
            "this instance stands at {here}, and its new source left {source} at {at}: without GTIDs nobody can tell what is between"
        );
        Err(Error::guest(format!("{words}. Make it anew from a backup of the new source")))
    };
    if server.identity(op).await? == source {
        // The old source itself.
        let end = server.log_end(op).await?;
        return if server.is_unchanged_since(op, &at).await? { Ok(Start::Place(place)) } else { refuse(&format!("{end} of its own log")) };
    }
    match &memory.handover {
        Some(mine) if mine.source == source && mine.left == at => Ok(Start::Place(place)),
        Some(mine) => refuse(&format!("{} of {}", mine.left, mine.source)),
        None => refuse("no known place"),
    }
}

/// Carries out what [`find`] found. Repeatable.
///
/// # Errors
/// The server refused.
pub(super) async fn apply(op: &Op, server: &mut Server<'_>, start: &Start) -> Result<()> {
    let forget = server.dialect.forget_history();
    match start {
        Start::Here | Start::Place(_) => Ok(()),
        Start::Set(set) => {
            server.run(op, "forget the transactions of before the restore", &forget).await?;
            let sql = SqlText::new("SET GLOBAL gtid_purged = ").literal(&set.to_string());
            server.run(op, "tell the server which transactions its backup has", &sql).await
        }
        Start::Position(position) => {
            server.run(op, "forget the transactions of before the restore", &forget).await?;
            set_position(op, server, position).await
        }
        Start::Reached(position) => set_position(op, server, position).await,
    }
}

async fn set_position(op: &Op, server: &mut Server<'_>, position: &GtidPosition) -> Result<()> {
    let sql = SqlText::new("SET GLOBAL gtid_slave_pos = ").literal(&position.to_string());
    server.run(op, "tell the server which transactions it has", &sql).await
}

/// The place to name the source with.
pub(super) fn place(start: &Start) -> Option<&Coordinates> {
    if let Start::Place(place) = start { Some(place) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_place_is_read_in_either_type() {
        let of = |value: Value| place_in(&Opaque(value.as_object().unwrap().clone())).map(|place| place.to_string());
        assert_eq!(of(json!({"log_file": "b.000001", "log_position": 4})).as_deref(), Some("b.000001:4"));
        assert_eq!(of(json!({"log_file": "b.000001", "log_position": "4"})).as_deref(), Some("b.000001:4"));
        assert_eq!(of(json!({"log_file": "b.000001"})), None);
        assert_eq!(of(json!({"log_position": 4})), None);
    }
}
