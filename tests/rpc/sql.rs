//! The guest's database, asked as the agent's own account.

use crate::support::Guest;

/// Runs statements as `os_admin`, and returns what they print.
pub(crate) fn sql(guest: &Guest, statements: &str) -> String {
    let output = std::process::Command::new("mariadb")
        .arg(format!("--defaults-file={}/state/os_admin.cnf", guest.dir))
        .args(["--skip-column-names", "-e", statements])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
