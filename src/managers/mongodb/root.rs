//! The user's own root account ([`RootAccess`]): the user `admin.root` with the role `root`, as with Trove.

use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{Bson, doc};
use secrecy::{ExposeSecret, SecretString};

use super::accounts::{NOT_FOUND, USERS};
use super::admin::{ADMIN, EXISTS};
use super::cluster::{self, Again, Changes, NOT_IN_A_SET};
use super::configuration::Configuration;
use super::names::{ANY_HOST, Rules};
use crate::error::{Error, Result};
use crate::managers::RootAccess;
use crate::model::UserSpec;
use crate::op::Op;
use crate::system::mongodb::Client;
use crate::system::password::random_password;

/// trove/common/db/mongodb/models.py: `MongoDBUser.root_username`.
const NAME: &str = "admin.root";
const USER: &str = "root";
const ROLE: &str = "root";

/// Root access of one server.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) client: Client,
    pub(super) changes: Changes,
    pub(super) configuration: Arc<Configuration>,
    pub(super) password_length: usize,
}

fn role() -> Bson {
    doc! {"role": ROLE, "db": ADMIN}.into()
}

#[async_trait]
impl RootAccess for Root {
    /// Anybody with the role counts: a root may have given it to others.
    async fn is_enabled(&self, op: &Op) -> Result<bool> {
        // A server whose cluster is not made yet has no users.
        if cluster::is_waiting(&self.configuration.effective()?) {
            return Ok(false);
        }
        let session = self.client.session(op).await?;
        let filter = doc! {"roles": {"$elemMatch": {"role": ROLE, "db": ADMIN}}};
        match session.find(op, "look for a user with the role 'root'", ADMIN, USERS, filter, Some(1)).await {
            Err(error) if error.database_code() == Some(NOT_IN_A_SET) && self.configuration.role()?.is_some() => Ok(false),
            found => Ok(!found?.is_empty()),
        }
    }

    async fn enable(&self, op: &Op, password: Option<SecretString>) -> Result<UserSpec> {
        let password = match password {
            Some(password) => {
                Rules::check_password(NAME, &password)?;
                password
            }
            None => random_password(self.password_length)?,
        };
        let command = |name: &str| doc! {name: USER, "pwd": password.expose_secret(), "roles": [role()]};
        match self.changes.run(op, "enable root", ADMIN, command("createUser"), Again::Same).await {
            Err(Error::Database { code: Some(EXISTS), .. }) => {
                self.changes.run(op, "enable root", ADMIN, command("updateUser"), Again::Same).await?
            }
            other => other?,
        }
        Ok(UserSpec { name: NAME.into(), password: Some(password), host: Some(ANY_HOST.into()), databases: Vec::new(), is_root: true })
    }

    async fn disable(&self, op: &Op) -> Result<()> {
        match self.changes.run(op, "disable root", ADMIN, doc! {"dropUser": USER}, Again::Same).await {
            Err(Error::Database { code: Some(NOT_FOUND), .. }) => Ok(()),
            other => other,
        }
    }
}
