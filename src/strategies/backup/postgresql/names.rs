//! What releases of Trove call these strategies.

/// A way of making backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Statements: `pg_dumpall`.
    Dump,
    /// The server's files: `pg_basebackup`.
    Base,
    /// The log since another backup.
    Incremental,
}

impl Strategy {
    /// The strategy `backup_strategy` names: the class names of Kilo and Train, with or without their Python module, and the driver names of later
    /// releases (trove/common/cfg.py). `None` for a name nobody had.
    pub fn named(name: &str) -> Option<Strategy> {
        let class = name.rsplit('.').next().unwrap_or(name).trim().to_ascii_lowercase();
        match class.as_str() {
            "pgdump" => Some(Strategy::Dump),
            "pgbasebackup" | "pg_basebackup" => Some(Strategy::Base),
            "pgbasebackupincremental" => Some(Strategy::Incremental),
            _ => None,
        }
    }

    /// The strategy that made a stored backup: by the type Trove kept of it; where that only says `full` or `incremental`, by the object's name.
    /// `None` for the type of another datastore.
    pub fn of_backup(kind: Option<&str>, object: &str) -> Option<Strategy> {
        let is_archive = || object.split('.').any(|part| part == "tar");
        match kind.map(str::trim) {
            Some("incremental") => Some(Strategy::Incremental),
            None | Some("" | "full") => Some(if is_archive() { Strategy::Base } else { Strategy::Dump }),
            Some(name) => Strategy::named(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_release_are_known() {
        let train = "trove.guestagent.strategies.backup.experimental.postgresql_impl.PgBaseBackup";
        for name in ["PgBaseBackup", "pg_basebackup", train] {
            assert_eq!(Strategy::named(name), Some(Strategy::Base), "{name}");
        }
        assert_eq!((Strategy::named("PgDump"), Strategy::named("InnoBackupEx")), (Some(Strategy::Dump), None));
        let of = Strategy::of_backup;
        assert_eq!((of(Some("full"), "b.tar.gz.enc"), of(None, "b.gz")), (Some(Strategy::Base), Some(Strategy::Dump)));
        assert_eq!(
            (of(Some("PgDump"), "b.tar.gz"), of(Some("incremental"), "b.tar.gz")),
            (Some(Strategy::Dump), Some(Strategy::Incremental))
        );
        assert_eq!(of(Some("MariaBackup"), "b.xbstream"), None);
    }
}
