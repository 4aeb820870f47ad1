//! [`Upgrades`]: other versions of the server on the data of this instance.

use async_trait::async_trait;
use camino::Utf8Path;
use mongodb::bson::doc;

use super::admin::ADMIN;
use super::cluster::{CLUSTERING, Role, is_waiting};
use super::configuration::is_database;
use super::groups;
use super::manager::MongoDbManager;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::Group;
use crate::managers::upgrade::{self, Product};
use crate::managers::{DatastoreManager, Upgrades};
use crate::model::Overrides;
use crate::op::Op;
use crate::system::files;
use crate::system::mongodb::{Flavor, Session};

fn product(flavor: Flavor) -> Product {
    Product { name: flavor.kind.name(), version: flavor.version, series: 2, numbers: 3 }
}

/// Version of the server in a note: `MongoDB 6.0.5`.
fn noted(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.rsplit_once(' ')?.1.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Raises what the server stores its data as to its own version: the next one reads the data of this one only (manual, "Upgrade a Standalone": the last step).
async fn raise_data(op: &Op, session: &Session) -> Result<()> {
    let flavor = session.flavor(op).await?;
    let wanted = flavor.feature_version();
    let ask = doc! { "getParameter": 1, "featureCompatibilityVersion": 1 };
    let told = session.run(op, "read which version the data are of", ADMIN, ask).await?;
    let is = told.get_document("featureCompatibilityVersion").and_then(|told| told.get_str("version"));
    if is.is_ok_and(|is| is == wanted) {
        return Ok(());
    }
    tracing::info!(version = wanted, "raising the version of the data");
    let mut raise = doc! { "setFeatureCompatibilityVersion": &wanted };
    if flavor.confirms_feature_version() {
        raise.insert("confirm", true);
    }
    session.run(op, "raise the version of the data", ADMIN, raise).await.map(drop)
}

impl MongoDbManager {
    /// Writes down which server the data are of, and what of the instance is not to be lost with the root disk.
    ///
    /// # Errors
    /// The volume cannot be written to.
    pub(super) fn note(&self, flavor: Flavor) -> Result<()> {
        upgrade::write_note(&self.configuration().layout.data_dir, &product(flavor).to_string())?;
        self.configuration().keep()
    }

    /// Before a root disk is a query router's.
    async fn make_way(&self, op: &Op) -> Result<()> {
        match self.configuration().kept_by_volume()? {
            Some((_, layers)) if Role::of(&layers) == Some(Role::QueryRouter) => self.disable_server(op).await,
            _ => Ok(()),
        }
    }

    async fn here(&self, op: &Op) -> Result<Flavor> {
        let role = self.configuration().role()?;
        self.configuration().program_of(role.as_ref()).flavor(op).await
    }
}

#[async_trait]
impl Upgrades for MongoDbManager {
    async fn check_data(&self, op: &Op) -> Result<()> {
        let configuration = self.configuration();
        let directory = &configuration.layout.data_dir;
        let role = match configuration.kept_by_volume()? {
            Some((_, layers)) => Role::of(&layers),
            None => configuration.role()?,
        };
        if !is_database(directory) && role != Some(Role::QueryRouter) {
            return Err(upgrade::no_data(directory));
        }
        self.half_restored().refuse()?;
        let Some(made_by) = upgrade::read_note(directory)? else { return Ok(()) };
        let here = self.here(op).await?;
        match noted(&made_by) {
            Some(series) if series > here.series() => Err(upgrade::unreadable(made_by, here)),
            Some(series) if !here.follows(series) => Err(Error::bad_request(format!(
                "the data are of {made_by}, which {here} does not read: it reads those of its own series and of the one before. Nothing was changed; upgrade to \
                 each series in between first"
            ))),
            _ => Ok(()),
        }
    }

    async fn installed(&self, op: &Op) -> Result<Product> {
        self.here(op).await.map(product)
    }

    fn check_step(&self, here: &Product, wanted: &str) -> Result<()> {
        let mut numbers = wanted.trim().split(['.', '-']).map(|number| number.parse::<u16>().ok());
        let Some(major) = numbers.next().flatten() else { return Ok(()) };
        let to = (major, numbers.next().flatten().unwrap_or(if major == here.version.0 { here.version.1 } else { 0 }));
        match Flavor::series_follows(to, (here.version.0, here.version.1)) {
            true => Ok(()),
            false => Err(Error::bad_request(format!(
                "version {wanted} does not read the data of {here}: it reads those of its own series and of the one before. Nothing was changed; upgrade to each \
                 series in between first"
            ))),
        }
    }

    async fn save(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        files::remove_tree(directory)?;
        self.configuration().copy_to(directory)?;
        self.note(self.here(op).await?)
    }

    async fn bring_back(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        self.make_way(op).await?;
        self.configuration().copy_from(op, directory).await?;
        self.adapt(op).await
    }

    async fn reconfigure(&self, op: &Op, contents: Option<&str>, overrides: Option<&Overrides>) -> Result<()> {
        let configuration = self.configuration();
        let overrides = overrides.filter(|overrides| !overrides.is_empty());
        let group = overrides.map(groups::parse).transpose().action("read the configuration group")?;
        self.make_way(op).await?;
        let part = match configuration.kept_by_volume()? {
            Some((kept, layers)) => {
                configuration.take_secrets_from(op, &kept).await?;
                layers.change(Group::System, CLUSTERING).cloned()
            }
            None => None,
        };
        if !configuration.layout.key_file().exists() {
            self.write_own_key(op).await?;
        }
        configuration.write_again(op, contents.unwrap_or_default(), group, part).await
    }

    async fn adapt(&self, op: &Op) -> Result<()> {
        self.configuration().write_base(op, "").await
    }

    async fn finish(&self, op: &Op) -> Result<()> {
        let configuration = self.configuration();
        let (role, here) = (configuration.role()?, self.here(op).await?);
        here.check_supported()?;
        self.ensure_directories()?;
        tracing::info!(server = %here, "starting the database server on the instance's data");
        if role == Some(Role::QueryRouter) {
            if !is_waiting(&configuration.effective()?) {
                self.service().set_enabled(op, true).await?;
                self.start(op).await?;
            }
            return configuration.keep();
        }
        // The account may have another number on another root disk.
        self.owner().take(op, &configuration.layout.data_dir).await?;
        self.service().set_enabled(op, true).await?;
        if role.is_none() {
            self.start_with_admin(op).await?;
            raise_data(op, &self.client().session(op).await?).await?;
        } else {
            // The set's own version is raised when all of its members have the new server, by who knows that.
            self.start(op).await?;
        }
        self.note(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read() {
        assert_eq!((noted("MongoDB 6.0.5"), noted("Percona Server for MongoDB 4.4.29")), (Some((6, 0)), Some((4, 4))));
        assert_eq!((noted("MongoDB six"), noted("6.0.5"), noted("MongoDB 6")), (None, None, None));
    }
}
