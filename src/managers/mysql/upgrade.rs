//! A restored database of an older MariaDB: its system tables are brought up to date. MySQL does that by itself since 8.0.16.

use std::time::Duration;

use camino::Utf8Path;

use super::flavor::Flavor;
use super::private_server::PrivateServerSpec;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::system::files;

/// All tables are looked at.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Where hot backups say which server they are of; the newer name is MariaDB's since 11.1.
const INFO: [&str; 2] = ["mariadb_backup_info", "xtrabackup_info"];

/// The server that made a dump, from its beginning.
pub(super) fn dumped_by(head: &str) -> Option<Flavor> {
    let line = head.lines().find_map(|line| line.strip_prefix("-- Server version"))?;
    Flavor::parse(line.trim(), "")
}

/// The server that a restored directory is of.
///
/// # Errors
/// The file that says so cannot be read.
pub(super) fn copied_from(directory: &Utf8Path) -> Result<Option<Flavor>> {
    for name in INFO {
        if let Some(text) = files::read_optional(&directory.join(name))? {
            let version = text.lines().find_map(|line| line.strip_prefix("server_version")?.trim_start().strip_prefix('='));
            return Ok(version.and_then(|version| Flavor::parse(version.trim(), "")));
        }
    }
    Ok(None)
}

/// True when `mariadb-upgrade` must run.
pub(super) fn is_needed(made_by: Flavor, here: Flavor) -> bool {
    let series = |flavor: Flavor| (flavor.version.0, flavor.version.1);
    here.is_mariadb() && made_by.is_mariadb() && series(made_by) < series(here)
}

/// Refuses files of another server than this guest's: no server reads those.
///
/// # Errors
/// They are of another kind, or of a newer series.
pub(super) fn check_files(made_by: Flavor, here: Flavor) -> Result<()> {
    let series = |flavor: Flavor| (flavor.version.0, flavor.version.1);
    if made_by.is_mariadb() != here.is_mariadb() || series(made_by) > series(here) {
        return Err(Error::guest(format!(
            "the backup holds files of {made_by}, which {here} cannot read: restore it to a guest of that version"
        )));
    }
    Ok(())
}

/// Runs it against a private server that lets root in.
///
/// # Errors
/// It failed; its words are in the error.
pub(super) async fn run(op: &Op, spec: &PrivateServerSpec) -> Result<()> {
    tracing::info!("bringing the system tables of an older MariaDB up to date");
    let upgrade = CommandSpec::new("mariadb-upgrade")
        .args(["--no-defaults", "--user=root", "--force"])
        .arg(format!("--socket={}", spec.socket()))
        .timeout(DEADLINE);
    spec.service.exec(op, upgrade).await.map(drop).action("upgrade the restored system tables")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_decide() {
        let of = |version| Flavor::parse(version, "").unwrap();
        let here = of("10.11.14-MariaDB");
        assert_eq!(dumped_by("-- MariaDB dump 10.19\n-- Server version\t10.6.22-MariaDB-log\n"), Some(of("10.6.22-MariaDB")));
        assert!(is_needed(of("10.6.22-MariaDB"), here) && !is_needed(of("10.11.2-MariaDB"), here) && !is_needed(of("5.7.44"), of("9.7.4")));
        check_files(of("10.6.22-MariaDB"), here).unwrap();
        check_files(of("10.11.99-MariaDB"), here).unwrap();
        assert!(check_files(of("11.4.2-MariaDB"), here).unwrap_err().to_string().contains("MariaDB 11.4.2"));
        assert!(check_files(of("8.0.36"), here).is_err());
    }

    #[test]
    fn a_restored_directory_says_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(copied_from(dir).unwrap(), None);
        std::fs::write(dir.join("xtrabackup_info"), "tool_name = mariabackup\nserver_version = 10.6.22-MariaDB-log\n").unwrap();
        assert_eq!(copied_from(dir).unwrap().unwrap().to_string(), "MariaDB 10.6.22");
    }
}
