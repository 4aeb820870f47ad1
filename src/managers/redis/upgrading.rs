//! [`Upgrades`]: other versions of the server on the data of this instance.

use async_trait::async_trait;
use camino::Utf8Path;

use super::configuration::{Configuration, PASSWORD_BEFORE};
use super::groups;
use super::manager::RedisManager;
use super::program::{REDIS, VALKEY};
use crate::error::{Result, ResultExt};
use crate::managers::configuration::{COMMON, Group};
use crate::managers::upgrade::{self, Product};
use crate::managers::{DatastoreManager, Upgrades};
use crate::model::Overrides;
use crate::op::Op;
use crate::system::files;

/// In a saved directory: the layers of the configuration.
const LAYERS: &str = "etc";
const STATE: &str = "state";
/// The last series of Redis whose files Valkey reads (valkey's src/rdb.h: `RDB_FOREIGN_VERSION_MIN`).
const COMMON_ANCESTOR: (u16, u16) = (7, 2);

fn series(product: &Product) -> (u16, u16) {
    (product.version.0, product.version.1)
}

/// Writes down which server the data are of, and what of the instance is not to be lost with the root disk.
///
/// # Errors
/// The volume cannot be written to.
pub(super) fn note(configuration: &Configuration, product: Product) -> Result<()> {
    upgrade::write_note(&configuration.layout.data_dir(), &product.to_string())?;
    configuration.keep_on_volume()
}

/// The server in a note.
fn noted(text: &str) -> Option<Product> {
    let (name, version) = text.split_once(' ')?;
    let name = [REDIS, VALKEY].into_iter().find(|known| *known == name)?;
    let mut numbers = version.split('.').map(str::parse::<u16>);
    let mut next = || numbers.next().and_then(std::result::Result::ok);
    Some(Product { name, version: (next()?, next()?, next()?), series: 2, numbers: 3 })
}

/// Whether files of one are read by the other.
fn reads(here: &Product, made_by: &Product) -> bool {
    match (made_by.name, here.name) {
        (made_by_name, here_name) if made_by_name == here_name => series(made_by) <= series(here),
        (REDIS, VALKEY) => series(made_by) <= COMMON_ANCESTOR,
        _ => false,
    }
}

#[async_trait]
impl Upgrades for RedisManager {
    async fn check_data(&self, op: &Op) -> Result<()> {
        let configuration = self.configuration();
        let directory = configuration.layout.data_dir();
        let made_by = upgrade::read_note(&directory)?;
        // A server that had nothing to store has left no file; one that an earlier agent prepared has left no note.
        if made_by.is_none() && !configuration.data_paths()?.iter().any(|path| path.exists()) {
            return Err(upgrade::no_data(&directory));
        }
        self.half_restored().refuse()?;
        let here = configuration.program.product(op).await?;
        match made_by.as_deref().and_then(noted) {
            Some(made_by) if !reads(&here, &made_by) => Err(upgrade::unreadable(made_by, here)),
            // Without a note the server finds out itself: of files it cannot read it says so, and leaves them as they are.
            _ => Ok(()),
        }
    }

    async fn installed(&self, op: &Op) -> Result<Product> {
        let program = &self.configuration().program;
        program.forget().await;
        program.product(op).await
    }

    async fn save(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        let configuration = self.configuration();
        let (layout, state) = (&configuration.layout, directory.join(STATE));
        files::remove_tree(directory)?;
        files::ensure_directory(directory, 0o700, None)?;
        files::copy_tree(&layout.override_dir(), &directory.join(LAYERS))?;
        files::ensure_directory(&state, 0o700, None)?;
        files::copy_file(&layout.state_dir.join(PASSWORD_BEFORE), &state.join(PASSWORD_BEFORE))?;
        note(configuration, configuration.program.product(op).await?)
    }

    async fn bring_back(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        let layout = &self.configuration().layout;
        files::ensure_directory(&layout.state_dir, 0o700, None)?;
        files::copy_file(&directory.join(STATE).join(PASSWORD_BEFORE), &layout.state_dir.join(PASSWORD_BEFORE))?;
        files::copy_tree(&directory.join(LAYERS), &layout.override_dir())?;
        self.adapt(op).await
    }

    async fn reconfigure(&self, op: &Op, contents: Option<&str>, overrides: Option<&Overrides>) -> Result<()> {
        let configuration = self.configuration();
        let mut layers = configuration.kept_on_volume()?;
        if let Some(overrides) = overrides.filter(|overrides| !overrides.is_empty()) {
            layers.push((Group::User, COMMON, groups::parse(overrides).action("read the configuration group")?));
        }
        configuration.write_base(op, contents.unwrap_or_default(), true, layers).await?;
        self.client_tls().reinstate(op).await
    }

    async fn adapt(&self, op: &Op) -> Result<()> {
        self.configuration().write_base(op, "", false, Vec::new()).await
    }

    async fn finish(&self, op: &Op) -> Result<()> {
        let configuration = self.configuration();
        let product = configuration.program.product(op).await?;
        tracing::info!(server = %product, "starting the database server on the instance's data");
        // The account may have another number on another root disk.
        self.owner().take(op, &configuration.layout.data_dir()).await?;
        self.service().set_enabled(op, true).await?;
        self.start(op).await?;
        note(configuration, product)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_servers_read_older_files_and_valkey_those_of_redis_before_they_parted() {
        let of = |name, version| Product { name, version, series: 2, numbers: 3 };
        let (redis, valkey) = (of(REDIS, (7, 0, 15)), of(VALKEY, (9, 0, 0)));
        assert!(reads(&redis, &redis) && reads(&of(REDIS, (8, 2, 0)), &redis) && reads(&of(REDIS, (7, 0, 2)), &redis));
        assert!(reads(&valkey, &redis) && reads(&valkey, &of(VALKEY, (7, 2, 5))));
        assert!(!reads(&valkey, &of(REDIS, (7, 4, 0))) && !reads(&redis, &valkey) && !reads(&of(REDIS, (6, 0, 16)), &redis));
        assert_eq!(noted(&redis.to_string()), Some(redis));
        assert_eq!((noted("10.11.14-MariaDB"), noted("Redis seven")), (None, None));
    }
}
