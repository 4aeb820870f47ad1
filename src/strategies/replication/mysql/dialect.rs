//! [`Dialect`]: the statements of replication, in the words of each server from MySQL 5.5 to 9 and MariaDB 10 to 12.

use camino::Utf8Path;

use super::coordinates::Coordinates;
use super::host::Role;
use super::strategy::Positioning;
use crate::model::{ReplicationUser, Source};
use crate::strategies::replication::Trust;
use crate::system::mysql::{Flavor, SqlText};

/// Seconds between two attempts to reach a source (Trove's).
const CONNECT_RETRY: u32 = 15;
/// Attempts before a replica gives up. MySQL 8.4 would after ten: a source may be away for longer than that.
const RETRY_COUNT: u32 = 86_400;

/// Whom to follow, and from where.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) source: &'a Source,
    pub(super) user: &'a ReplicationUser,
    /// How to speak TLS with it, if at all.
    pub(super) tls: Option<&'a Trust>,
    /// The place to start at; without it, where it stands, or where GTIDs say.
    pub(super) place: Option<&'a Coordinates>,
}

/// The words of one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect(pub(super) Flavor);

impl Dialect {
    /// MySQL from a version on.
    fn mysql(self, version: (u16, u16, u16)) -> bool {
        !self.0.is_mariadb() && self.0.version >= version
    }

    /// MySQL's own GTIDs.
    pub(super) fn has_gtid_sets(self) -> bool {
        self.mysql((5, 6, 5))
    }

    /// MariaDB's.
    pub(super) fn has_gtid_positions(self) -> bool {
        self.0.is_mariadb() && self.0.version >= (10, 0, 2)
    }

    /// The variable that names a server to others: unlike `server_id`, the UUID goes with the data directory.
    pub(super) fn identity(self) -> &'static str {
        if self.has_gtid_sets() { "server_uuid" } else { "server_id" }
    }

    /// `super_read_only` keeps privileged accounts from writing as well.
    pub(super) fn has_super_read_only(self) -> bool {
        self.mysql((5, 7, 8))
    }

    /// One of two words, by MySQL's version.
    fn word(self, version: (u16, u16, u16), new: &'static str, old: &'static str) -> SqlText {
        SqlText::new(if self.mysql(version) { new } else { old })
    }

    /// Words about an account, by whether the server has `IF [NOT] EXISTS` for them: MySQL 5.7.8 and MariaDB 10.1.3 brought both.
    pub(super) fn words_if_exists(self, without: &'static str, with: &'static str) -> SqlText {
        SqlText::new(if self.0.has_create_if_not_exists() { with } else { without })
    }

    pub(super) fn show_status(self) -> SqlText {
        self.word((8, 0, 22), "SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
    }

    pub(super) fn start(self) -> SqlText {
        self.word((8, 0, 22), "START REPLICA", "START SLAVE")
    }

    pub(super) fn start_applying(self) -> SqlText {
        self.word((8, 0, 22), "START REPLICA SQL_THREAD", "START SLAVE SQL_THREAD")
    }

    pub(super) fn stop(self) -> SqlText {
        self.word((8, 0, 22), "STOP REPLICA", "STOP SLAVE")
    }

    pub(super) fn stop_receiving(self) -> SqlText {
        self.word((8, 0, 22), "STOP REPLICA IO_THREAD", "STOP SLAVE IO_THREAD")
    }

    pub(super) fn forget_source(self) -> SqlText {
        self.word((8, 0, 22), "RESET REPLICA ALL", "RESET SLAVE ALL")
    }

    /// Where the server's own log ends.
    pub(super) fn show_log_end(self) -> SqlText {
        self.word((8, 2, 0), "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
    }

    /// Forgets the server's own log, and what it has done.
    pub(super) fn forget_history(self) -> SqlText {
        self.word((8, 2, 0), "RESET BINARY LOGS AND GTIDS", "RESET MASTER")
    }

    pub(super) fn set_read_only(self, read_only: bool) -> SqlText {
        SqlText::new(match (read_only, self.has_super_read_only()) {
            // It switches read_only on, too; and read_only takes it along when it goes.
            (true, true) => "SET GLOBAL super_read_only = ON",
            (true, false) => "SET GLOBAL read_only = ON",
            (false, _) => "SET GLOBAL read_only = OFF",
        })
    }

    /// Whom to follow.
    pub(super) fn change_source(self, positioning: Positioning, target: &Target<'_>) -> SqlText {
        let new = self.mysql((8, 0, 23));
        let pick = |now: &'static str, then: &'static str| if new { now } else { then };
        let mut sql = SqlText::new(pick("CHANGE REPLICATION SOURCE TO SOURCE_HOST = ", "CHANGE MASTER TO MASTER_HOST = "))
            .literal(&target.source.host)
            .raw(pick(", SOURCE_PORT = ", ", MASTER_PORT = "))
            .number(target.source.port)
            .raw(pick(", SOURCE_USER = ", ", MASTER_USER = "))
            .literal(&target.user.name)
            .raw(pick(", SOURCE_PASSWORD = ", ", MASTER_PASSWORD = "))
            .secret(&target.user.password)
            .raw(pick(", SOURCE_CONNECT_RETRY = ", ", MASTER_CONNECT_RETRY = "))
            .number(CONNECT_RETRY);
        if self.mysql((5, 6, 0)) {
            sql = sql.raw(pick(", SOURCE_RETRY_COUNT = ", ", MASTER_RETRY_COUNT = ")).number(RETRY_COUNT);
        }
        // Named without TLS, too: a server keeps what it was told of an earlier source.
        let ca = target.tls.and_then(|trust| trust.ca.as_deref()).map_or("", Utf8Path::as_str);
        sql = sql
            .raw(pick(", SOURCE_SSL = ", ", MASTER_SSL = "))
            .number(u8::from(target.tls.is_some()))
            .raw(pick(", SOURCE_SSL_CA = ", ", MASTER_SSL_CA = "))
            .literal(ca)
            .raw(pick(", SOURCE_SSL_VERIFY_SERVER_CERT = ", ", MASTER_SSL_VERIFY_SERVER_CERT = "))
            .number(u8::from(target.tls.is_some_and(|trust| trust.names_source)));
        if self.mysql((8, 0, 4)) {
            // caching_sha2_password lets nobody in over plain TCP without the server's key.
            sql = sql.raw(pick(", GET_SOURCE_PUBLIC_KEY = ", ", GET_MASTER_PUBLIC_KEY = ")).number(u8::from(target.tls.is_none()));
        }
        if let Some(place) = target.place {
            sql = sql.raw(pick(", SOURCE_LOG_FILE = ", ", MASTER_LOG_FILE = ")).literal(&place.file);
            sql = sql.raw(pick(", SOURCE_LOG_POS = ", ", MASTER_LOG_POS = ")).number(place.place);
        }
        match positioning {
            Positioning::Gtid if self.0.is_mariadb() => sql.raw(", MASTER_USE_GTID = slave_pos"),
            Positioning::Gtid => sql.raw(pick(", SOURCE_AUTO_POSITION = 1", ", MASTER_AUTO_POSITION = 1")),
            Positioning::Binlog if self.has_gtid_positions() => sql.raw(", MASTER_USE_GTID = no"),
            Positioning::Binlog if self.has_gtid_sets() => sql.raw(pick(", SOURCE_AUTO_POSITION = 0", ", MASTER_AUTO_POSITION = 0")),
            Positioning::Binlog => sql,
        }
    }

    /// What a role does not work without, besides a binary log. What a replica receives must be in its own log too, or nobody could follow it
    /// once it is promoted.
    pub(super) fn required(self, positioning: Positioning, role: Role) -> Vec<(&'static str, &'static str)> {
        let mut options = vec![("log_slave_updates", "ON")];
        match positioning {
            Positioning::Gtid if self.has_gtid_sets() => options.extend([("enforce_gtid_consistency", "ON"), ("gtid_mode", "ON")]),
            _ if self.has_gtid_positions() => {
                // A transaction nobody else has stops replication, rather than going unseen.
                options.push(("gtid_strict_mode", "ON"));
            }
            _ => {}
        }
        if role == Role::Replica {
            options.extend([("relay_log_recovery", "ON"), ("read_only", "ON")]);
            if self.has_super_read_only() {
                options.push(("super_read_only", "ON"));
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Opaque;
    use secrecy::ExposeSecret;

    fn dialect(version: &str) -> Dialect {
        Dialect(Flavor::parse(version, "").unwrap())
    }

    fn change(version: &str, positioning: Positioning, tls: bool, place: Option<&str>) -> String {
        let source = Source { host: "198.51.100.7".into(), port: 3306, extra: Opaque::default() };
        let user = ReplicationUser { name: "slave_0".into(), password: "it's".into() };
        let place = place.map(|text| Coordinates::parse(text).unwrap());
        let trust = Trust { ca: Some("/d/ca.pem".into()), names_source: true };
        let target = Target { source: &source, user: &user, tls: tls.then_some(&trust), place: place.as_ref() };
        let sql = dialect(version).change_source(positioning, &target);
        assert!(!format!("{sql:?}").contains("it's"));
        sql.render().expose_secret().to_owned()
    }

    #[test]
    fn a_source_is_named_in_the_words_of_every_server() {
        assert_eq!(
            change("9.7.4", Positioning::Gtid, false, None),
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '198.51.100.7', SOURCE_PORT = 3306, SOURCE_USER = 'slave_0', SOURCE_PASSWORD = 'it''s', \
             SOURCE_CONNECT_RETRY = 15, SOURCE_RETRY_COUNT = 86400, SOURCE_SSL = 0, SOURCE_SSL_CA = '', SOURCE_SSL_VERIFY_SERVER_CERT = 0, \
             GET_SOURCE_PUBLIC_KEY = 1, SOURCE_AUTO_POSITION = 1"
        );
        assert_eq!(
            change("8.0.22", Positioning::Gtid, true, None),
            "CHANGE MASTER TO MASTER_HOST = '198.51.100.7', MASTER_PORT = 3306, MASTER_USER = 'slave_0', MASTER_PASSWORD = 'it''s', \
             MASTER_CONNECT_RETRY = 15, MASTER_RETRY_COUNT = 86400, MASTER_SSL = 1, MASTER_SSL_CA = '/d/ca.pem', MASTER_SSL_VERIFY_SERVER_CERT = 1, \
             GET_MASTER_PUBLIC_KEY = 0, MASTER_AUTO_POSITION = 1"
        );
        assert_eq!(
            change("5.5.62", Positioning::Binlog, false, Some("mysql-bin.000003:157")),
            "CHANGE MASTER TO MASTER_HOST = '198.51.100.7', MASTER_PORT = 3306, MASTER_USER = 'slave_0', MASTER_PASSWORD = 'it''s', \
             MASTER_CONNECT_RETRY = 15, MASTER_SSL = 0, MASTER_SSL_CA = '', MASTER_SSL_VERIFY_SERVER_CERT = 0, \
             MASTER_LOG_FILE = 'mysql-bin.000003', MASTER_LOG_POS = 157"
        );
        assert_eq!(
            change("11.8.2-MariaDB", Positioning::Gtid, true, None),
            "CHANGE MASTER TO MASTER_HOST = '198.51.100.7', MASTER_PORT = 3306, MASTER_USER = 'slave_0', MASTER_PASSWORD = 'it''s', \
             MASTER_CONNECT_RETRY = 15, MASTER_SSL = 1, MASTER_SSL_CA = '/d/ca.pem', \
             MASTER_SSL_VERIFY_SERVER_CERT = 1, MASTER_USE_GTID = slave_pos"
        );
        assert!(
            change("10.11.14-MariaDB", Positioning::Binlog, false, Some("b.000001:4"))
                .ends_with("MASTER_LOG_POS = 4, MASTER_USE_GTID = no")
        );
        assert!(change("9.7.4", Positioning::Binlog, false, Some("b.000001:4")).ends_with("SOURCE_LOG_POS = 4, SOURCE_AUTO_POSITION = 0"));
        assert!(change("5.7.44", Positioning::Gtid, false, None).ends_with("MASTER_SSL_VERIFY_SERVER_CERT = 0, MASTER_AUTO_POSITION = 1"));
    }

    #[test]
    fn statements_change_their_names_when_the_servers_did() {
        let words = |version: &str| {
            let d = dialect(version);
            [d.show_status(), d.stop_receiving(), d.forget_source(), d.show_log_end(), d.forget_history(), d.set_read_only(true)]
                .map(|sql| format!("{sql:?}"))
                .join("; ")
        };
        let old = "SHOW SLAVE STATUS; STOP SLAVE IO_THREAD; RESET SLAVE ALL; SHOW MASTER STATUS; RESET MASTER; SET GLOBAL read_only = ON";
        assert_eq!(words("5.5.62"), old);
        assert_eq!(words("11.8.2-MariaDB"), old);
        assert_eq!(words("5.7.44"), old.replace("GLOBAL read", "GLOBAL super_read"));
        let middle = "SHOW REPLICA STATUS; STOP REPLICA IO_THREAD; RESET REPLICA ALL; SHOW MASTER STATUS; RESET MASTER; SET GLOBAL super_read_only = ON";
        assert_eq!(words("8.0.36"), middle);
        let new = middle.replace("SHOW MASTER STATUS; RESET MASTER", "SHOW BINARY LOG STATUS; RESET BINARY LOGS AND GTIDS");
        assert_eq!(words("8.4.3"), new);
        assert_eq!(words("9.7.4"), new);
    }

    #[test]
    fn roles_need_what_their_servers_have() {
        let names = |version: &str, positioning, role| {
            dialect(version).required(positioning, role).iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("9.7.4", Positioning::Gtid, Role::Source), "log_slave_updates enforce_gtid_consistency gtid_mode");
        assert_eq!(names("9.7.4", Positioning::Binlog, Role::Replica), "log_slave_updates relay_log_recovery read_only super_read_only");
        assert_eq!(names("10.11.14-MariaDB", Positioning::Gtid, Role::Source), "log_slave_updates gtid_strict_mode");
        assert_eq!(names("5.5.62", Positioning::Binlog, Role::Replica), "log_slave_updates relay_log_recovery read_only");
        assert_eq!((dialect("5.5.62").identity(), dialect("8.0.1").identity()), ("server_id", "server_uuid"));
    }
}
