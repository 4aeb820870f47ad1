//! Users ([`UserAdmin`]): Trove writes `<database>.<name>` for a user of a database.
//!
//! Semantics of trove/guestagent/datastore/experimental/mongodb/service.py (`MongoDBAdmin`), where it tells what went wrong: it only logged names that are not valid,
//! users that exist already or do not exist, and answered that all was well. Lists are in the order of the names.

use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use secrecy::{ExposeSecret, SecretString};

use super::admin::{ADMIN, EXISTS};
use super::cluster::{Again, Changes};
use super::names::{ANY_HOST, Rules, UserName};
use crate::error::{Error, Result};
use crate::managers::UserAdmin;
use crate::model::{DatabaseSpec, Page, PageRequest, PasswordChange, UserAttributes, UserSpec};
use crate::op::Op;
use crate::system::mongodb::{Client, Session};

/// "User not found" (src/mongo/base/error_codes.yml).
pub(super) const NOT_FOUND: u16 = 11;
/// What access to a database is (Trove's `MongoDBUser._init_roles`).
const ACCESS: &str = "readWrite";
/// The collection of all users, in the database `admin`; `_id` is Trove's name of a user.
pub(super) const USERS: &str = "system.users";

/// Users of one server.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) client: Client,
    pub(super) changes: Changes,
    pub(super) rules: Arc<Rules>,
}

struct NewUser {
    name: UserName,
    password: SecretString,
    roles: Vec<Bson>,
}

fn access_to(database: &str) -> Bson {
    doc! {"role": ACCESS, "db": database}.into()
}

/// What a controller calls it when it looks whether a user exists.
fn marker(name: impl std::fmt::Display) -> String {
    format!("{name}@{ANY_HOST}")
}

fn not_found(name: impl std::fmt::Display) -> Error {
    Error::not_found(format!("User {}", marker(name)))
}

/// A user's name where the server refuses for it.
fn named(name: &UserName, error: Error) -> Error {
    match error {
        Error::Database { code: Some(NOT_FOUND), .. } => not_found(name),
        Error::Database { code: Some(EXISTS), .. } => {
            Error::bad_request(format!("Cannot create user: user {} exists already.", marker(name)))
        }
        other => other,
    }
}

impl Accounts {
    fn check_new(&self, user: &UserSpec) -> Result<NewUser> {
        let of = |error: Error| Error::invalid(format!("Cannot create user: {error}"));
        let name = self.rules.check_user(&user.name).map_err(of)?;
        Rules::check_host(user.host.as_deref()).map_err(of)?;
        let password = user.password.clone().ok_or_else(|| of(Error::invalid("MongoDB user to create is missing a password.")))?;
        Rules::check_password(&user.name, &password).map_err(of)?;
        let mut roles = Vec::with_capacity(user.databases.len());
        for database in &user.databases {
            self.rules.check_database(&database.name).map_err(of)?;
            roles.push(access_to(&database.name));
        }
        Ok(NewUser { name, password, roles })
    }

    /// The name of a user that a caller may mean.
    fn meant(&self, name: &str) -> Result<UserName> {
        let invalid = |error| Error::bad_request(format!("Username {} is not valid: {error}", name.escape_debug()));
        self.rules.check_user(name).map_err(invalid)
    }

    async fn find(&self, op: &Op, session: &Session, name: &UserName) -> Result<Option<UserSpec>> {
        let filter = doc! {"_id": name.to_string()};
        let found = session.find(op, "look for a user", ADMIN, USERS, filter, Some(1)).await?;
        Ok(found.first().map(|found| self.spec(found)))
    }

    async fn existing(&self, op: &Op, session: &Session, name: &UserName) -> Result<UserSpec> {
        self.find(op, session, name).await?.ok_or_else(|| not_found(name))
    }

    /// A user's document, as it travels; its databases are those it may write to.
    fn spec(&self, found: &Document) -> UserSpec {
        let roles = found.get_array("roles").map(Vec::as_slice).unwrap_or_default();
        let database = |role: &Bson| {
            let role = role.as_document().filter(|role| role.get_str("role").is_ok_and(|role| role == ACCESS))?;
            role.get_str("db").ok().filter(|name| self.rules.check_database(name).is_ok()).map(str::to_owned)
        };
        let mut databases: Vec<String> = roles.iter().filter_map(database).collect();
        databases.sort_unstable();
        UserSpec {
            name: found.get_str("_id").unwrap_or_default().to_owned(),
            password: None,
            host: Some(ANY_HOST.into()),
            databases: databases.into_iter().map(DatabaseSpec::named).collect(),
            is_root: false,
        }
    }

    async fn change(&self, op: &Op, action: String, name: &UserName, command: Document, again: Again) -> Result<()> {
        self.changes.run(op, &action, &name.database, command, again).await.map_err(|error| named(name, error))
    }

    async fn create_one(&self, op: &Op, user: NewUser) -> Result<()> {
        let command = |verb: &str| doc! {verb: &user.name.user, "pwd": user.password.expose_secret(), "roles": &user.roles};
        // There was none when it was looked for: the one that is there is this one.
        let again = Again::Assure(EXISTS, command("updateUser"));
        self.change(op, format!("create user {}", user.name), &user.name, command("createUser"), again).await
    }

    async fn set_password(&self, op: &Op, name: &UserName, password: &SecretString) -> Result<()> {
        let command = doc! {"updateUser": &name.user, "pwd": password.expose_secret()};
        self.change(op, format!("change the password of {name}"), name, command, Again::Same).await
    }

    async fn drop_user(&self, op: &Op, name: &UserName) -> Result<()> {
        self.change(op, format!("drop user {name}"), name, doc! {"dropUser": &name.user}, Again::Done(NOT_FOUND)).await
    }

    /// The server renames nobody: a user of the new name is made with the same roles, and the old one goes.
    async fn rename(&self, op: &Op, session: &Session, old: &UserName, new: &str, password: Option<&SecretString>) -> Result<()> {
        let new = self.rules.check_user(new)?;
        let password = password.ok_or_else(|| {
            Error::bad_request(format!(
                "Cannot rename user {}: the server keeps no password that another user could be given. Send a new password along with the new name.",
                marker(old)
            ))
        })?;
        let found = session.find(op, "look for a user", ADMIN, USERS, doc! {"_id": old.to_string()}, Some(1)).await?;
        let roles = found.first().ok_or_else(|| not_found(old))?.get_array("roles").cloned().unwrap_or_default();
        self.create_one(op, NewUser { name: new.clone(), password: password.clone(), roles }).await?;
        if let Err(error) = self.drop_user(op, old).await {
            self.drop_user(op, &new).await.ok();
            return Err(error);
        }
        Ok(())
    }
}

#[async_trait]
impl UserAdmin for Accounts {
    async fn create(&self, op: &Op, users: &[UserSpec]) -> Result<()> {
        let checked = users.iter().map(|user| self.check_new(user)).collect::<Result<Vec<_>>>()?;
        let session = self.changes.session(op).await?;
        for (index, user) in checked.iter().enumerate() {
            let twice = checked.iter().take(index).any(|other| other.name == user.name);
            if twice || self.find(op, &session, &user.name).await?.is_some() {
                return Err(Error::bad_request(format!("Cannot create user: user {} exists already.", marker(&user.name))));
            }
        }
        for user in checked {
            self.create_one(op, user).await?;
        }
        Ok(())
    }

    async fn delete(&self, op: &Op, user: &UserSpec) -> Result<()> {
        let name = self.rules.check_user(&user.name).map_err(|error| Error::invalid(format!("Cannot delete user: {error}")))?;
        self.drop_user(op, &name).await
    }

    async fn list(&self, op: &Op, page: &PageRequest) -> Result<Page<UserSpec>> {
        let reserved: Vec<&str> = self.rules.reserved.users().collect();
        let mut id = doc! {"$nin": reserved};
        if let Some(after) = page.marker.as_deref().filter(|marker| !marker.is_empty()) {
            let after = after.strip_suffix(&marker("")).unwrap_or(after);
            id.insert(if page.include_marker { "$gte" } else { "$gt" }, after);
        }
        let session = self.client.session(op).await?;
        let limit = page.limit.map(|limit| limit.saturating_add(1));
        let found = session.find(op, "list users", ADMIN, USERS, doc! {"_id": id}, limit).await?;
        let users = found.iter().map(|found| self.spec(found)).collect();
        Ok(Page::cut(users, page.limit, |user: &UserSpec| marker(&user.name)))
    }

    async fn get(&self, op: &Op, name: &str, host: Option<&str>) -> Result<Option<UserSpec>> {
        let name = self.meant(name)?;
        if Rules::check_host(host).is_err() {
            return Ok(None);
        }
        let session = self.client.session(op).await?;
        self.find(op, &session, &name).await
    }

    async fn change_passwords(&self, op: &Op, changes: &[PasswordChange]) -> Result<()> {
        let session = self.changes.session(op).await?;
        let mut checked = Vec::with_capacity(changes.len());
        for change in changes {
            let name = self.meant(&change.name)?;
            Rules::check_host(change.host.as_deref())?;
            Rules::check_password(&change.name, &change.password)?;
            self.existing(op, &session, &name).await?;
            checked.push((name, &change.password));
        }
        for (name, password) in checked {
            self.set_password(op, &name, password).await?;
        }
        Ok(())
    }

    async fn update_attributes(&self, op: &Op, name: &str, host: Option<&str>, attributes: &UserAttributes) -> Result<()> {
        Rules::check_host(host)?;
        Rules::check_host(attributes.host.as_deref())?;
        let old = self.meant(name)?;
        if let Some(password) = &attributes.password {
            Rules::check_password(name, password)?;
        }
        let session = self.changes.session(op).await?;
        self.existing(op, &session, &old).await?;
        match (attributes.name.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != name), &attributes.password) {
            (Some(new), password) => self.rename(op, &session, &old, new, password.as_ref()).await,
            (None, Some(password)) => self.set_password(op, &old, password).await,
            (None, None) => Ok(()),
        }
    }

    async fn list_access(&self, op: &Op, name: &str, _host: Option<&str>) -> Result<Vec<DatabaseSpec>> {
        let name = self.meant(name)?;
        let session = self.client.session(op).await?;
        self.existing(op, &session, &name).await.map(|user| user.databases)
    }

    /// A database need not be there yet: it is made by the first who writes to it.
    async fn grant_access(&self, op: &Op, name: &str, host: Option<&str>, databases: &[String]) -> Result<()> {
        Rules::check_host(host)?;
        let name = self.meant(name)?;
        let mut roles = Vec::with_capacity(databases.len());
        for database in databases {
            let refused = |error| Error::bad_request(format!("Grant access to {} is not allowed: {error}", database.escape_debug()));
            self.rules.check_database(database).map_err(refused)?;
            roles.push(access_to(database));
        }
        let session = self.changes.session(op).await?;
        self.existing(op, &session, &name).await?;
        if roles.is_empty() {
            return Ok(());
        }
        let command = doc! {"grantRolesToUser": &name.user, "roles": roles};
        self.change(op, format!("grant access to user {name}"), &name, command, Again::Same).await
    }

    async fn revoke_access(&self, op: &Op, name: &str, host: Option<&str>, database: &str) -> Result<()> {
        Rules::check_host(host)?;
        let name = self.meant(name)?;
        let session = self.changes.session(op).await?;
        let user = self.existing(op, &session, &name).await?;
        if !user.databases.iter().any(|other| other.name == database) {
            return Err(Error::not_found(format!("Access of user {} to database {}", marker(&name), database.escape_debug())));
        }
        let command = doc! {"revokeRolesFromUser": &name.user, "roles": [access_to(database)]};
        self.change(op, format!("revoke access to {database} from user {name}"), &name, command, Again::Same).await
    }
}
