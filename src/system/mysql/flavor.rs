//! [`Flavor`]: which server this is, and what follows from it.

use std::fmt;

/// Who made the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Oracle's MySQL.
    MySql,
    /// Percona Server: MySQL's versions and syntax.
    Percona,
    /// MariaDB.
    MariaDb,
}

impl Kind {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Kind::MySql => "MySQL",
            Kind::Percona => "Percona Server",
            Kind::MariaDb => "MariaDB",
        }
    }
}

/// A version number.
pub type Version = (u16, u16, u16);

/// Kind and version of the server, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flavor {
    /// Who made it.
    pub kind: Kind,
    /// Its version; MariaDB's own (10.11.14), without the `5.5.5-` it shows to old clients.
    pub version: Version,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        write!(f, "{} {major}.{minor}.{patch}", self.kind.name())
    }
}

impl Flavor {
    /// From `VERSION()` and `@@version_comment`; `None` when there is no version number in them.
    pub fn parse(version: &str, comment: &str) -> Option<Flavor> {
        let maria = [version, comment].iter().any(|text| text.to_ascii_lowercase().contains("mariadb"));
        let kind = match () {
            () if maria => Kind::MariaDb,
            () if comment.to_ascii_lowercase().contains("percona") => Kind::Percona,
            () => Kind::MySql,
        };
        let digits = if maria { version.strip_prefix("5.5.5-").unwrap_or(version) } else { version };
        let mut numbers = digits.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u16>);
        let mut next = || numbers.next().and_then(Result::ok);
        Some(Flavor { kind, version: (next()?, next()?, next().unwrap_or(0)) })
    }

    /// From the one line `mysqld --version` prints (`mysqld  Ver 8.4.3 for Linux on x86_64 (MySQL Community Server - GPL)`).
    pub fn parse_program_version(line: &str) -> Option<Flavor> {
        let (_, rest) = line.split_once("Ver ")?;
        let (version, comment) = rest.split_once(' ').unwrap_or((rest, ""));
        Flavor::parse(version, comment)
    }

    /// True from these versions on.
    pub fn at_least(self, mysql: Version, mariadb: Version) -> bool {
        self.version >= if self.is_mariadb() { mariadb } else { mysql }
    }

    /// MariaDB, that is: not MySQL and not Percona.
    pub fn is_mariadb(self) -> bool {
        self.kind == Kind::MariaDb
    }

    /// `ALTER USER ... IDENTIFIED BY`; before it, `SET PASSWORD FOR ... = PASSWORD(...)`.
    pub fn has_alter_user(self) -> bool {
        self.at_least((5, 7, 6), (10, 2, 0))
    }

    /// `ALTER USER ... ACCOUNT LOCK`.
    pub fn has_account_lock(self) -> bool {
        self.at_least((5, 7, 6), (10, 4, 2))
    }

    /// `CREATE USER IF NOT EXISTS`; before it, `GRANT ... IDENTIFIED BY` creates or changes an account.
    pub fn has_create_if_not_exists(self) -> bool {
        self.at_least((5, 7, 8), (10, 1, 3))
    }

    /// Roles are rows of `mysql.user` with `is_role = 'Y'`.
    pub fn has_role_column(self) -> bool {
        self.is_mariadb() && self.version >= (10, 0, 5)
    }

    /// Longest account name, in characters.
    pub fn user_name_limit(self) -> usize {
        match () {
            () if self.is_mariadb() => 80,
            () if self.version >= (5, 7, 8) => 32,
            () => 16,
        }
    }

    /// Longest host part of an account name, in characters.
    pub fn host_limit(self) -> usize {
        if self.at_least((8, 0, 17), (10, 6, 0)) { 255 } else { 60 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_makers_are_understood() {
        let flavor = |version, comment| Flavor::parse(version, comment).map(|flavor| (flavor.kind, flavor.version));
        assert_eq!(flavor("9.7.4-2", "(Debian)"), Some((Kind::MySql, (9, 7, 4))));
        assert_eq!(flavor("5.5.62-log", "MySQL Community Server (GPL)"), Some((Kind::MySql, (5, 5, 62))));
        assert_eq!(flavor("8.0.36-28", "Percona Server (GPL), Release 28"), Some((Kind::Percona, (8, 0, 36))));
        assert_eq!(flavor("5.5.5-10.11.14-MariaDB-0+deb12u2", "Debian 12"), Some((Kind::MariaDb, (10, 11, 14))));
        assert_eq!(flavor("11.8.2-MariaDB-ubu2404-log", ""), Some((Kind::MariaDb, (11, 8, 2))));
        assert_eq!(flavor("", ""), None);
    }

    #[test]
    fn the_programs_line_is_understood() {
        let flavor = |line| Flavor::parse_program_version(line).map(|flavor| flavor.to_string());
        assert_eq!(flavor("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))").as_deref(), Some("MySQL 9.7.4"));
        assert_eq!(
            flavor("mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for debian-linux-gnu on x86_64 (Debian 12)").as_deref(),
            Some("MariaDB 10.11.14")
        );
        assert_eq!(
            flavor("mysqld  Ver 8.0.36-28 for Linux on x86_64 (Percona Server (GPL), Release 28)").as_deref(),
            Some("Percona Server 8.0.36")
        );
        assert_eq!(flavor("nonsense"), None);
    }

    #[test]
    fn limits_follow_the_version() {
        let limit = |version| Flavor::parse(version, "").map(Flavor::user_name_limit);
        assert_eq!((limit("5.6.50"), limit("5.7.44"), limit("10.3.1-MariaDB")), (Some(16), Some(32), Some(80)));
    }
}
