//! [`Server`]: one look at the server, or one change of it, at a time.

use mysql_async::Row;

use super::coordinates::Coordinates;
use super::dialect::Dialect;
use super::gtid_position::GtidPosition;
use super::gtid_set::GtidSet;
use super::status::Following;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::mysql::{Client, Session, SqlText};

/// Events of a binary log that carry no data.
const EMPTY_EVENTS: &[&str] =
    &["Format_desc", "Rotate", "Stop", "Previous_gtids", "Gtid_list", "Binlog_checkpoint", "Start_encryption", "Heartbeat"];
/// How many events are looked at in each file: one that carries data comes soon after the file's first.
const LOOK_AT_EVENTS: u32 = 20;

/// A session of `os_admin`, with the words of its server.
#[derive(Debug)]
pub(super) struct Server<'a> {
    session: Session<'a>,
    pub(super) dialect: Dialect,
}

impl<'a> Server<'a> {
    pub(super) async fn open(op: &Op, client: &'a Client) -> Result<Server<'a>> {
        let session = client.session(op).await?;
        let dialect = Dialect(session.flavor());
        Ok(Server { session, dialect })
    }

    pub(super) async fn close(self) {
        self.session.close().await;
    }

    pub(super) async fn run(&mut self, op: &Op, action: &str, sql: &SqlText) -> Result<()> {
        self.session.run(op, action, sql).await
    }

    /// The first column of a statement's rows.
    pub(super) async fn column(&mut self, op: &Op, action: &str, sql: &SqlText) -> Result<Vec<String>> {
        let rows: Vec<Row> = self.session.rows(op, action, sql).await?;
        Ok(rows.iter().filter_map(|row| row.get_opt::<Option<String>, _>(0)?.ok()?).collect())
    }

    /// A global variable; empty when it is not set.
    pub(super) async fn global(&mut self, op: &Op, name: &'static str) -> Result<String> {
        let sql = SqlText::new("SELECT CONVERT(@@GLOBAL.").raw(name).raw(" USING utf8mb4)");
        Ok(self.column(op, &format!("read the variable {name}"), &sql).await?.pop().unwrap_or_default())
    }

    /// True for a variable that is on.
    pub(super) async fn is_on(&mut self, op: &Op, name: &'static str) -> Result<bool> {
        Ok(matches!(self.global(op, name).await?.as_str(), "1" | "ON"))
    }

    /// What this server is to others.
    pub(super) async fn identity(&mut self, op: &Op) -> Result<String> {
        self.global(op, self.dialect.identity()).await
    }

    /// Whom it follows; `None` for nobody.
    pub(super) async fn following(&mut self, op: &Op) -> Result<Option<Following>> {
        let rows: Vec<Row> = self.session.rows(op, "look how replication is", &self.dialect.show_status()).await?;
        Ok(rows.first().map(Following::of))
    }

    /// Names of the accounts with a session, replicas included.
    pub(super) async fn connected_users(&mut self, op: &Op) -> Result<Vec<String>> {
        let rows: Vec<Row> = self.session.rows(op, "look who is connected", &SqlText::new("SHOW PROCESSLIST")).await?;
        Ok(rows.iter().filter_map(|row| row.get_opt(1)?.ok()).collect())
    }

    /// How many servers read its log now.
    pub(super) async fn connected_replicas(&mut self, op: &Op) -> Result<u64> {
        let rows: Vec<Row> = self.session.rows(op, "look who is connected", &SqlText::new("SHOW PROCESSLIST")).await?;
        // "Binlog Dump" by place, "Binlog Dump GTID".
        let reads =
            |row: &&Row| row.get_opt::<String, _>(4).is_some_and(|command| command.is_ok_and(|command| command.starts_with("Binlog Dump")));
        Ok(rows.iter().filter(reads).count() as u64)
    }

    /// Everything it has done, where it has MySQL's GTIDs.
    pub(super) async fn executed(&mut self, op: &Op) -> Result<GtidSet> {
        GtidSet::parse(&self.global(op, "gtid_executed").await?)
    }

    /// A position of MariaDB.
    pub(super) async fn position(&mut self, op: &Op, name: &'static str) -> Result<GtidPosition> {
        GtidPosition::parse(&self.global(op, name).await?)
    }

    /// The end of its own log.
    ///
    /// # Errors
    /// It has none.
    pub(super) async fn log_end(&mut self, op: &Op) -> Result<Coordinates> {
        let rows: Vec<Row> = self.session.rows(op, "look where the binary log ends", &self.dialect.show_log_end()).await?;
        let end = rows.first().and_then(|row| Some(Coordinates { file: row.get_opt(0)?.ok()?, place: row.get_opt(1)?.ok()? }));
        end.ok_or_else(|| Error::guest("the server writes no binary log: nobody can follow it. enable_as_master makes it write one"))
    }

    /// True when nothing was written to its own log after a place.
    pub(super) async fn is_unchanged_since(&mut self, op: &Op, place: &Coordinates) -> Result<bool> {
        let files = self.column(op, "list the binary logs", &SqlText::new("SHOW BINARY LOGS")).await?;
        let Some(from) = files.iter().position(|file| *file == place.file) else { return Ok(false) };
        for file in files.iter().skip(from) {
            let mut sql = SqlText::new("SHOW BINLOG EVENTS IN ").literal(file);
            if *file == place.file {
                sql = sql.raw(" FROM ").number(place.place);
            }
            let rows: Vec<Row> = self.session.rows(op, "look into the binary log", &sql.raw(" LIMIT ").number(LOOK_AT_EVENTS)).await?;
            let kind = |row: &Row| row.get_opt::<String, _>(2).and_then(std::result::Result::ok).unwrap_or_default();
            if rows.iter().any(|row| !EMPTY_EVENTS.contains(&kind(row).as_str())) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What this very server has done by itself, in its own words; `None` where it has no GTIDs to tell.
    pub(super) async fn own(&mut self, op: &Op) -> Result<Option<Own>> {
        if self.dialect.has_gtid_sets() {
            let uuid = self.identity(op).await?;
            return Ok(Some(Own::Set(self.executed(op).await?.of(&uuid))));
        }
        if self.dialect.has_gtid_positions() {
            let id = self.identity(op).await?.parse().unwrap_or_default();
            return Ok(Some(Own::Position(self.position(op, "gtid_binlog_state").await?.by(id))));
        }
        Ok(None)
    }
}

/// What a server has done by itself, rather than after another one.
#[derive(Debug)]
pub(super) enum Own {
    /// MySQL.
    Set(GtidSet),
    /// MariaDB: the last one of each domain.
    Position(GtidPosition),
}

impl Own {
    /// As it is remembered.
    pub(super) fn text(&self) -> String {
        match self {
            Own::Set(set) => set.to_string(),
            Own::Position(position) => position.to_string(),
        }
    }

    /// What of it is in none of `known`; empty for nothing.
    pub(super) fn beyond(&self, known: &[&str]) -> Result<String> {
        Ok(match self {
            Own::Set(set) => {
                let rest = known.iter().try_fold(set.clone(), |rest, known| Ok::<_, Error>(rest.minus(&GtidSet::parse(known)?)))?;
                rest.to_string()
            }
            Own::Position(position) => {
                let rest =
                    known.iter().try_fold(position.clone(), |rest, known| Ok::<_, Error>(rest.beyond(&GtidPosition::parse(known)?)))?;
                rest.to_string()
            }
        })
    }
}
