//! What releases of Trove call this strategy.

/// Class name of the Python runner (trove/guestagent/strategies/backup/experimental/mongo_impl.py).
pub const KIND: &str = "MongoDump";

/// Whether `backup_strategy`, or the type Trove kept of a backup, means the one strategy of this datastore: the class name of Kilo to Train, with or
/// without its Python module, the program's name, or nothing in particular.
pub fn is_known(name: Option<&str>) -> bool {
    let class = name.map(|name| name.rsplit('.').next().unwrap_or(name).trim().to_ascii_lowercase());
    matches!(class.as_deref(), None | Some("" | "full" | "mongodump" | "mongo_dump"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_release_are_known() {
        let train = "trove.guestagent.strategies.backup.experimental.mongo_impl.MongoDump";
        for name in [None, Some(""), Some("full"), Some(KIND), Some("mongodump"), Some(train)] {
            assert!(is_known(name), "{name:?}");
        }
        assert!(!is_known(Some("RedisBackup")) && !is_known(Some("incremental")));
    }
}
