//! Data of an older server: what they are of, and bringing the system tables up to date. MySQL does that by itself since 8.0.16.

use std::time::Duration;

use camino::Utf8Path;

use super::flavor::Flavor;
use super::layout::Layout;
use super::private_server::PrivateServerSpec;
use crate::error::{Error, Result, ResultExt};
use crate::managers::upgrade::{self, Product};
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::system::files;
use crate::system::service::ServiceControl;

/// All tables are looked at.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Where hot backups say which server they are of; the newer name is MariaDB's since 11.1.
const INFO: [&str; 2] = ["mariadb_backup_info", "xtrabackup_info"];

/// In the data directory: the server that last brought the system tables up to date; the newer name is MariaDB's since 11.
const UPGRADED: [&str; 2] = ["mariadb_upgrade_info", "mysql_upgrade_info"];

impl From<Flavor> for Product {
    fn from(flavor: Flavor) -> Product {
        Product { name: flavor.kind.name(), version: flavor.version, series: 2, numbers: 3 }
    }
}

fn series(flavor: Flavor) -> (u16, u16) {
    (flavor.version.0, flavor.version.1)
}

/// Writes down which server the data are of.
///
/// # Errors
/// The volume cannot be written to.
pub(super) fn note(layout: &Layout, here: Flavor) -> Result<()> {
    let (major, minor, patch) = here.version;
    let kind = if here.is_mariadb() { "-MariaDB" } else { "" };
    upgrade::write_note(&layout.mount_point, &format!("{major}.{minor}.{patch}{kind}"))
}

/// The server whose data are on the volume, as far as that is written anywhere.
///
/// # Errors
/// A file that says so cannot be read.
pub(super) fn data_of(layout: &Layout) -> Result<Option<Flavor>> {
    if let Some(text) = upgrade::read_note(&layout.mount_point)? {
        return Ok(Flavor::parse(&text, ""));
    }
    for path in UPGRADED.iter().map(|name| layout.data_dir.join(name)) {
        if let Some(text) = files::read_optional(&path)? {
            return Ok(Flavor::parse(text.trim(), ""));
        }
    }
    Ok(None)
}

/// Refuses data of a newer server, or of another kind of server: nothing must be started on them.
///
/// # Errors
/// They are.
pub(super) fn check_data(made_by: Flavor, here: Flavor) -> Result<()> {
    if made_by.is_mariadb() == here.is_mariadb() && series(made_by) <= series(here) {
        return Ok(());
    }
    Err(upgrade::unreadable(made_by, here))
}

/// The system tables of a running server.
pub(super) struct SystemTables<'a> {
    pub(super) service: &'a dyn ServiceControl,
    /// The option file of an account with all privileges.
    pub(super) login: &'a Utf8Path,
}

impl SystemTables<'_> {
    /// Brings them up to date, if that was not done already.
    ///
    /// # Errors
    /// The server's own program failed; its words are in the error, and what to do.
    pub(super) async fn upgrade(&self, op: &Op, here: Flavor) -> Result<()> {
        let program = match here {
            _ if here.is_mariadb() && here.version >= (10, 4, 6) => "mariadb-upgrade",
            _ if here.is_mariadb() || here.version < (8, 0, 16) => "mysql_upgrade",
            _ => return Ok(()),
        };
        let upgrade = CommandSpec::new(program).arg(format!("--defaults-file={}", self.login)).timeout(DEADLINE);
        self.service.exec(op, upgrade).await.map(drop).action(
            "upgrade the system tables (the database runs, with those of the older server: see its log, repair what the program names, send the request again)",
        )
    }
}

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
    here.is_mariadb() && made_by.is_mariadb() && series(made_by) < series(here)
}

/// Refuses files of another server than this guest's: no server reads those.
///
/// # Errors
/// They are of another kind, or of a newer series.
pub(super) fn check_files(made_by: Flavor, here: Flavor) -> Result<()> {
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
    fn only_older_data_of_the_same_kind_are_read() {
        let here = Flavor::parse("10.11.14-MariaDB", "").unwrap();
        let newer = Flavor::parse("11.8.2-MariaDB", "").unwrap();
        check_data(here, newer).unwrap();
        assert!(check_data(newer, here).unwrap_err().to_string().contains("MariaDB 11.8.2 or newer"));
        assert!(check_data(Flavor::parse("8.0.36", "").unwrap(), here).is_err());
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
