//! Data of an older major version made into the installed one's, with both versions' programs: `pg_upgrade`, into a directory beside the old one, which stays as it
//! is until the new server has answered.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::layout::directories_of;
use super::program::ServerProgram;
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::system::files;
use crate::volume;

/// All data are copied.
const DEADLINE: Duration = Duration::from_secs(12 * 3600);
/// Where the programs of one version check a cluster, or start it, this is long enough.
const CHECK: Duration = Duration::from_secs(3600);

/// Beside the data directory: the new one while it is made, and when it is made; the old one when the new has its place.
fn beside(data_dir: &Utf8Path) -> [Utf8PathBuf; 3] {
    [".trove-new-major", ".trove-made-major", ".trove-old-major"].map(|name| data_dir.with_file_name(name))
}

/// The major version whose data are in a directory; `None` for none.
///
/// # Errors
/// That cannot be read.
pub(super) fn data_of(data_dir: &Utf8Path) -> Result<Option<u16>> {
    let Some(text) = files::read_optional(&data_dir.join("PG_VERSION"))? else { return Ok(None) };
    let number = text.trim().split('.').next().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Error::guest(format!("{data_dir}/PG_VERSION does not say of which version the data are")))
}

/// Where the programs of a version are.
///
/// # Errors
/// They are not on this guest.
pub(super) fn programs_of(major: u16) -> Result<Utf8PathBuf> {
    let found = directories_of(&major.to_string()).into_iter().find(|directory| directory.join("postgres").is_file());
    found.ok_or_else(|| {
        Error::bad_request(format!(
            "the data are of PostgreSQL {major}, and their upgrade takes that version's programs, too: install postgresql-{major} beside the newer one in the \
             image (or in the guest), and send the request again. Nothing was changed"
        ))
    })
}

/// Ends what was cut short between its two renamings.
///
/// # Errors
/// The file system refused.
pub(super) fn complete(data_dir: &Utf8Path) -> Result<()> {
    let [_, made, old] = beside(data_dir);
    if !data_dir.exists() && made.exists() && old.exists() { files::rename(&made, data_dir) } else { Ok(()) }
}

/// Whether the old data are there still: the new server has not answered yet.
pub(super) fn has_old(data_dir: &Utf8Path) -> bool {
    beside(data_dir)[2].exists()
}

/// The new server has answered: the old data go.
///
/// # Errors
/// The file system refused.
pub(super) fn forget_old(data_dir: &Utf8Path) -> Result<()> {
    beside(data_dir).iter().try_for_each(|directory| files::remove_tree(directory))
}

/// Replaces the data directory by one of the installed version with the same in it. Repeatable.
///
/// # Errors
/// There is no room for a second copy, or one of the programs failed: the old data are where they were.
pub(super) async fn convert(op: &Op, program: &ServerProgram, owner: &Owner, data_dir: &Utf8Path, made_by: u16) -> Result<()> {
    let old_programs = programs_of(made_by)?;
    let [new, made, old] = beside(data_dir);
    files::remove_tree(&new)?;
    files::remove_tree(&made)?;
    check_room(op, program, data_dir).await?;
    let said = run(
        op,
        program,
        CommandSpec::new(old_programs.join("pg_controldata")).arg(format!("--pgdata={data_dir}")).as_user(owner.name()),
        CHECK,
    )
    .await?;
    // Both must have checksums, or neither.
    let has_checksums =
        !said.lines().any(|line| line.split_once("Data page checksum version:").is_some_and(|(_, value)| value.trim() == "0"));
    owner.directory(op, &new, 0o700).await?;
    let into = new.join("pgdata");
    owner.directory(op, &into, 0o700).await?;
    program.initialize_like(op, &into, has_checksums).await?;
    let new_programs = program.path(op, "pg_upgrade").await?;
    let new_programs = new_programs.parent().unwrap_or(Utf8Path::new("/usr/bin"));
    tracing::info!(from = made_by, "copying the data for another major version of the server");
    // It writes where it runs. The files that it starts servers with are those `initdb` has made: sockets only, and the account's role.
    let upgrade = CommandSpec::new("env")
        .arg(format!("--chdir={new}"))
        .arg(new_programs.join("pg_upgrade"))
        .arg(format!("--old-bindir={old_programs}"))
        .arg(format!("--new-bindir={new_programs}"))
        .arg(format!("--old-datadir={data_dir}"))
        .arg(format!("--new-datadir={into}"))
        .arg(format!("--socketdir={new}"))
        .args(["--username=postgres", "--old-options=-c shared_preload_libraries=''", "--new-options=-c shared_preload_libraries=''"])
        .as_user(owner.name());
    run(op, program, upgrade, DEADLINE).await.action(format!(
        "upgrade the data from PostgreSQL {made_by} (they are where they were: repair what the program names, or go back to the image of before)"
    ))?;
    crate::op::spawn_blocking(nix::unistd::sync)
        .await
        .map_err(|error| Error::guest(format!("writing the new data to the disk broke off: {error}")))?;
    files::rename(&into, &made)?;
    files::remove_tree(&old)?;
    files::rename(data_dir, &old)?;
    files::rename(&made, data_dir)
}

async fn run(op: &Op, program: &ServerProgram, command: CommandSpec, deadline: Duration) -> Result<String> {
    match program.service.exec(op, command.timeout(deadline)).await {
        Ok(output) => Ok(output.stdout),
        Err(error) => Err(error),
    }
}

/// A second copy, and what a server writes meanwhile.
async fn check_room(op: &Op, program: &ServerProgram, data_dir: &Utf8Path) -> Result<()> {
    let said = run(op, program, CommandSpec::new("du").args(["--summarize", "--block-size=1", data_dir.as_str()]), CHECK).await?;
    let size: u64 = said.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or_default();
    let needed = size + size / 20 + (64 << 20);
    let available = volume::filesystem_stats(data_dir)?.available();
    if needed <= available {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "the upgrade to another major version copies the data: it takes {} MiB on the volume, and {} are free. Nothing was changed; enlarge the volume and send the \
         request again",
        needed >> 20,
        available >> 20
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_short_between_the_renamings_is_completed() {
        let directory = tempfile::tempdir().unwrap();
        let data = Utf8Path::from_path(directory.path()).unwrap().join("pgdata");
        let [_, made, old] = beside(&data);
        complete(&data).unwrap();
        assert_eq!(data_of(&data).unwrap(), None);
        std::fs::create_dir(&old).unwrap();
        std::fs::create_dir(&made).unwrap();
        std::fs::write(made.join("PG_VERSION"), "17\n").unwrap();
        complete(&data).unwrap();
        assert_eq!((data_of(&data).unwrap(), made.exists(), old.exists()), (Some(17), false, true));
        complete(&data).unwrap();
        forget_old(&data).unwrap();
        assert!(!old.exists() && data.exists());
        std::fs::write(data.join("PG_VERSION"), "x").unwrap();
        assert!(data_of(&data).is_err());
    }

    #[test]
    fn programs_that_are_not_there_are_asked_for() {
        let error = programs_of(8).unwrap_err().to_string();
        assert!(error.contains("postgresql-8") && error.contains("Nothing was changed"), "{error}");
    }
}
