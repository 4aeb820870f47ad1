//! A data directory that is a copy of another server's, without what is that server's alone.

use camino::Utf8Path;

use super::configuration::{names, refuse_own};
use crate::codec::{Document, PostgreSqlConf};
use crate::error::Result;
use crate::managers::Owner;
use crate::op::Op;
use crate::system::files;

/// What makes a server one that others alone can write to.
pub(super) const STANDBY: &str = "standby.signal";
/// What a replica, or a server that was being recovered, has in its data directory: the copy follows nobody.
const ROLES: [&str; 2] = [STANDBY, "recovery.signal"];
/// What `ALTER SYSTEM` has written.
pub(super) const SETTINGS: &str = "postgresql.auto.conf";
/// What of that is about the server it was written on, besides the agent's own parameters.
const OF_THE_SOURCE: [&str; 4] = ["archive_", "primary_", "recovery_", "restore_"];

/// Takes out what was for the server that the data are a copy of. Returns whether there were settings of that kind.
///
/// # Errors
/// The file system refused.
pub(super) async fn forget_source(op: &Op, owner: &Owner, directory: &Utf8Path) -> Result<bool> {
    ROLES.iter().try_for_each(|name| files::remove(&directory.join(name)))?;
    let file = directory.join(SETTINGS);
    let text = files::read_optional(&file)?.unwrap_or_default();
    let Some(kept) = without_the_sources(&text) else { return Ok(false) };
    files::write_atomic(&file, kept.as_bytes(), 0o600, None)?;
    owner.take(op, &file).await.map(|()| true)
}

/// `None` when there is nothing to take out.
fn without_the_sources(text: &str) -> Option<String> {
    let mut document = PostgreSqlConf::parse(text);
    let is_the_sources = |name: &str| refuse_own(name).is_err() || OF_THE_SOURCE.iter().any(|prefix| name.starts_with(prefix));
    let taken = names(Some(&document)).into_iter().filter(|name| is_the_sources(name) && document.remove(&[name])).count();
    (taken > 0).then(|| document.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_source_go_and_others_stay() {
        let text = "# Do not edit\nwork_mem = '8MB'\nport = '1'\narchive_command = 'cp %p /x'\nprimary_conninfo = 'host=192.0.2.1'\n";
        assert_eq!(without_the_sources(text).unwrap(), "# Do not edit\nwork_mem = '8MB'\n");
        assert_eq!(without_the_sources("work_mem = '8MB'\n"), None);
    }
}
