//! [`Flavor`]: what one version of the server does differently from another. Asked of the program before there is a server, and of the server when there is one.

use std::fmt;

use mongodb::bson::Document;

use crate::error::{Error, Result};

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// MongoDB's own.
    MongoDb,
    /// Percona Server for MongoDB.
    Percona,
}

impl Kind {
    /// What it calls itself.
    pub fn name(self) -> &'static str {
        match self {
            Kind::MongoDb => "MongoDB",
            Kind::Percona => "Percona Server for MongoDB",
        }
    }
}

/// Kind and version of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flavor {
    /// Whose it is.
    pub kind: Kind,
    /// Major, minor and patch number.
    pub version: (u16, u16, u16),
}

/// The oldest that MongoDB's own driver speaks with.
const OLDEST: (u16, u16, u16) = (4, 4, 0);

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        write!(f, "{} {major}.{minor}.{patch}", self.kind.name())
    }
}

fn version(text: &str) -> Option<(u16, u16, u16)> {
    let mut numbers = text.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).map(str::parse::<u16>);
    let mut next = || numbers.next().and_then(std::result::Result::ok);
    Some((next()?, next()?, next().unwrap_or_default()))
}

impl Flavor {
    /// Reads what a program says with `--version`: `db version v6.0.5`, `mongos version v6.0.5`.
    pub fn of_program(said: &str) -> Option<Flavor> {
        let line = said.lines().find_map(|line| line.split_once(" version ").filter(|(who, _)| matches!(*who, "db" | "mongos")))?;
        let kind = if said.to_ascii_lowercase().contains("psmdb") { Kind::Percona } else { Kind::MongoDb };
        Some(Flavor { kind, version: version(line.1)? })
    }

    /// Reads a server's answer to `buildInfo`.
    pub fn of_server(build: &Document) -> Option<Flavor> {
        let kind = if build.contains_key("psmdbVersion") { Kind::Percona } else { Kind::MongoDb };
        Some(Flavor { kind, version: version(build.get_str("version").ok()?)? })
    }

    /// What a server is asked for its place in the deployment by (manual, "hello": since 5.0; before, `isMaster`).
    pub fn hello(&self) -> &'static str {
        if self.version >= (5, 0, 0) { "hello" } else { "isMaster" }
    }

    /// Servers of one series read one another's data.
    pub fn series(&self) -> (u16, u16) {
        (self.version.0, self.version.1)
    }

    /// Whether it reads the data of a server of that series (manual, "Release Notes": upgrades go from one series to the next).
    pub fn follows(&self, series: (u16, u16)) -> bool {
        Flavor::series_follows(self.series(), series)
    }

    /// Likewise, of two series.
    pub fn series_follows(to: (u16, u16), from: (u16, u16)) -> bool {
        // Up to 4.4 the second number counted series, too; since 5.0 it counts what comes between them.
        match (from, to) {
            ((4, from), (4, to)) => from == to || from + 2 == to,
            ((4, from), (5, _)) => from == 4,
            ((from, _), (to, _)) => from == to || from + 1 == to,
        }
    }

    /// What its own data are of (manual, "setFeatureCompatibilityVersion").
    pub fn feature_version(&self) -> String {
        let (major, minor) = self.series();
        format!("{major}.{minor}")
    }

    /// Whether that command wants to be told that it is meant (since 7.0).
    pub fn confirms_feature_version(&self) -> bool {
        self.version >= (7, 0, 0)
    }

    /// Whether the agent can talk to it.
    ///
    /// # Errors
    /// It is too old.
    pub fn check_supported(&self) -> Result<()> {
        match self.version >= OLDEST {
            true => Ok(()),
            false => Err(Error::guest(format!(
                "{self} is installed, and the agent speaks with 4.4 and later: install a newer server (MongoDB's own drivers do not speak with this one \
                 any more)"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::doc;

    #[test]
    fn programs_and_servers_tell_what_they_are() {
        let six = Flavor::of_program("db version v6.0.5\nBuild Info: {\n    \"version\": \"6.0.5\"\n}\n").unwrap();
        assert_eq!((six.to_string().as_str(), six.hello()), ("MongoDB 6.0.5", "hello"));
        assert_eq!(Flavor::of_program("mongos version v8.0.1-rc0\n").unwrap().version, (8, 0, 1));
        assert_eq!(Flavor::of_program("mysqld  Ver 9.7"), None);
        let percona = Flavor::of_server(&doc! {"version": "4.4.29-28", "psmdbVersion": "4.4.29-28"}).unwrap();
        assert_eq!((percona.to_string().as_str(), percona.hello()), ("Percona Server for MongoDB 4.4.29", "isMaster"));
        assert_eq!(Flavor::of_server(&doc! {"ok": 1}), None);
    }

    #[test]
    fn a_server_reads_the_data_of_its_series_and_of_the_one_before() {
        let follows = Flavor::series_follows;
        for (to, from) in [((6, 0), (6, 0)), ((6, 0), (5, 0)), ((5, 0), (4, 4)), ((4, 4), (4, 2)), ((8, 2), (8, 0)), ((8, 0), (7, 0))] {
            assert!(follows(to, from), "{to:?} {from:?}");
        }
        for (to, from) in [((7, 0), (5, 0)), ((6, 0), (4, 4)), ((5, 0), (4, 2)), ((4, 4), (4, 0)), ((5, 0), (6, 0)), ((8, 0), (6, 0))] {
            assert!(!follows(to, from), "{to:?} {from:?}");
        }
    }

    #[test]
    fn a_server_that_no_driver_speaks_with_is_refused_with_its_name() {
        let old = Flavor::of_program("db version v2.4.9\n").unwrap();
        assert!(old.check_supported().unwrap_err().to_string().starts_with("MongoDB 2.4.9 is installed"));
        assert!(Flavor::of_program("db version v8.0.4").unwrap().check_supported().is_ok());
    }
}
