//! What releases of Trove call these strategies.

/// A way of making backups, of which a flavor has its own tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Statements: `mysqldump`, `mariadb-dump`.
    Dump,
    /// The server's files, copied while it works: `xtrabackup`, `mariadb-backup`.
    Hot,
}

impl Strategy {
    /// The strategy `backup_strategy` names: the class names of Kilo and Train, with or without their Python module, and the driver names of later
    /// releases (trove/common/cfg.py). `None` for a name nobody had.
    pub fn named(name: &str) -> Option<Strategy> {
        let class = name.rsplit('.').next().unwrap_or(name).trim().to_ascii_lowercase();
        match class.as_str() {
            "mysqldump" => Some(Strategy::Dump),
            "innobackupex" | "innodbbackupex" | "innobackupexincremental" | "xtrabackup" | "xtrabackupincremental" => Some(Strategy::Hot),
            "mariabackup" | "mariabackupincremental" => Some(Strategy::Hot),
            _ => None,
        }
    }

    /// The strategy that made a stored backup: by the type Trove kept of it; where that only says `full` or `incremental`, by the object's name.
    /// `None` for the type of another datastore.
    pub fn of_backup(kind: Option<&str>, object: &str) -> Option<Strategy> {
        match kind.map(str::trim) {
            None | Some("" | "full" | "incremental") => {
                Some(if object.split('.').any(|part| part == "xbstream") { Strategy::Hot } else { Strategy::Dump })
            }
            Some(name) => Strategy::named(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_release_are_known() {
        let kilo = "trove.guestagent.strategies.backup.mysql_impl.InnoBackupEx";
        for name in
            ["InnoBackupEx", "InnoDBBackupEx", "InnoBackupExIncremental", "xtrabackup", "innobackupex", "MariaBackup", "mariabackup", kilo]
        {
            assert_eq!(Strategy::named(name), Some(Strategy::Hot), "{name}");
        }
        assert_eq!(Strategy::named("MySQLDump"), Some(Strategy::Dump));
        assert_eq!(Strategy::named("PgDump"), None);
    }

    #[test]
    fn a_type_without_a_tool_is_told_by_the_objects_name() {
        let of = Strategy::of_backup;
        assert_eq!(of(Some("incremental"), "b.xbstream.gz.enc"), Some(Strategy::Hot));
        assert_eq!((of(Some("full"), "b.gz"), of(None, "b.gz.enc")), (Some(Strategy::Dump), Some(Strategy::Dump)));
        assert_eq!(of(Some("MySQLDump"), "b.xbstream.gz"), Some(Strategy::Dump));
        assert_eq!(of(Some("MariaBackupIncremental"), "b.xbstream.gz"), Some(Strategy::Hot));
        assert_eq!(of(Some("CbBackup"), "b.gz"), None);
    }
}
