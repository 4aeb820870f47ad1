//! Users ([`UserAdmin`]): roles that can log in.
//!
//! Semantics of trove/guestagent/datastore/postgres/service.py (`PgSqlAdmin`), where it has any: a role that does not exist is `NotFound` here, where Python
//! fell over its own `None`. Lists are in the order of `name@%`, which is what a controller asks for when it looks whether a user exists.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use super::access::{self, role_exists};
use super::names::{ANY_HOST, Rules};
use crate::error::{Error, Result};
use crate::managers::UserAdmin;
use crate::managers::paging::{Order, paged};
use crate::model::{DatabaseSpec, Page, PageRequest, PasswordChange, UserAttributes, UserSpec};
use crate::op::Op;
use crate::system::postgresql::{Client, Ident, OS_ADMIN, Session, SqlText, scram_verifier};

/// Users of one server.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) client: Arc<Client>,
    pub(super) rules: Arc<Rules>,
}

/// Order of lists and of markers, whatever the collation of the database.
const MARKER: &str = "(r.rolname::text || '@%') COLLATE \"C\"";

fn marker(name: &str) -> String {
    format!("{name}@{ANY_HOST}")
}

fn not_found(name: &str) -> Error {
    Error::not_found(format!("User {}", marker(name)))
}

/// Sets a password.
pub(super) fn password_statement(role: &Ident, password: &SecretString) -> SqlText {
    SqlText::new("ALTER ROLE ").ident(role).raw(" PASSWORD ").secret(&scram_verifier(password))
}

struct NewUser {
    name: String,
    role: Ident,
    password: SecretString,
    databases: Vec<String>,
}

fn spec(name: String, databases: Vec<String>) -> UserSpec {
    let databases = databases.into_iter().map(DatabaseSpec::named).collect();
    UserSpec { name, password: None, host: Some(ANY_HOST.into()), databases, is_root: false }
}

impl Accounts {
    fn check_new(&self, user: &UserSpec) -> Result<NewUser> {
        let (name, of) = (&user.name, |error: Error| Error::invalid(format!("Cannot create user: {error}")));
        self.rules.check_new_user(name).and_then(|()| Rules::check_host(user.host.as_deref())).map_err(of)?;
        // Python would create one that nobody can log in as.
        let password = user.password.clone().ok_or_else(|| Error::invalid(format!("Cannot create user: user {name} has no password")))?;
        Rules::check_password(name, &password)?;
        user.databases.iter().try_for_each(|database| self.rules.check_database(&database.name))?;
        let databases = user.databases.iter().map(|database| database.name.clone()).collect();
        Ok(NewUser { name: name.clone(), role: Ident::new(name)?, password, databases })
    }

    /// True for a role that a caller may mean: it is not reserved, and can log in.
    async fn is_user(&self, op: &Op, session: &Session<'_>, name: &str) -> Result<bool> {
        if let Err(error) = self.rules.reserved.check_user(name) {
            return Err(Error::bad_request(format!("Username {name} is not valid: {error}")));
        }
        let sql = SqlText::new("SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname = ").literal(name);
        Ok(!name.contains('\0') && !session.texts(op, format!("look for user {name}"), &sql).await?.is_empty())
    }

    async fn existing(&self, op: &Op, session: &Session<'_>, name: &str) -> Result<Ident> {
        if self.is_user(op, session, name).await? { Ident::new(name) } else { Err(not_found(name)) }
    }

    async fn create_one(&self, op: &Op, session: &Session<'_>, user: &NewUser) -> Result<()> {
        let sql = SqlText::new("CREATE ROLE ").ident(&user.role).raw(" LOGIN PASSWORD ").secret(&scram_verifier(&user.password));
        session.run(op, format!("create user {}", user.name), &sql).await?;
        for database in &user.databases {
            if let Err(error) = access::grant(op, &self.client, session, &user.name, database).await {
                // A role without its grants is in the way of the next attempt.
                self.drop_role(op, session, &user.name, &user.role).await.ok();
                return Err(error);
            }
        }
        Ok(())
    }

    /// What the role owns stays, as the tables of a MySQL user do; what it was granted goes. Both are told database by database.
    async fn drop_role(&self, op: &Op, session: &Session<'_>, name: &str, role: &Ident) -> Result<()> {
        let sql = SqlText::new("SELECT DISTINCT d.datname FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid AND d.datallowconn ")
            .raw("JOIN pg_roles r ON r.oid = s.refobjid AND s.refclassid = 'pg_authid'::regclass WHERE r.rolname = ")
            .literal(name);
        let action = || format!("release what belongs to user {name}");
        let sql = session.texts(op, action(), &sql).await?;
        let release = SqlText::new("REASSIGN OWNED BY ").ident(role).raw(" TO ").ident(&Ident::new(OS_ADMIN)?);
        let release = release.raw("; DROP OWNED BY ").ident(role);
        for database in sql {
            self.client.session_in(op, &database).await?.run(op, action(), &release).await?;
        }
        session.run(op, action(), &release).await?;
        session.run(op, format!("drop user {name}"), &SqlText::new("DROP ROLE ").ident(role)).await
    }

    /// Names of the page asked for, and one more when there are more.
    async fn page(&self, op: &Op, session: &Session<'_>, page: &PageRequest) -> Result<Vec<String>> {
        let sql = SqlText::new("SELECT r.rolname::text FROM pg_roles r WHERE r.rolcanlogin AND lower(r.rolname) NOT IN (''")
            .raw(", ")
            .literals(self.rules.reserved.users())
            .raw(")");
        let sql = paged(sql, &Order { by: MARKER, marker: ["", ""] }, page);
        session.texts(op, "list users", &sql).await
    }

    /// Databases of the roles between two markers.
    async fn databases_between(&self, op: &Op, session: &Session<'_>, first: &str, last: &str) -> Result<HashMap<String, Vec<String>>> {
        let sql = access::grants_query(&self.rules, |sql| {
            sql.raw(MARKER).raw(" BETWEEN ").literal(&marker(first)).raw(" AND ").literal(&marker(last))
        });
        let mut databases: HashMap<String, Vec<String>> = HashMap::new();
        for row in session.rows(op, "read privileges on databases", &sql).await? {
            if let [Some(user), Some(database)] = row.as_slice() {
                databases.entry(user.clone()).or_default().push(database.clone());
            }
        }
        Ok(databases)
    }
}

#[async_trait]
impl UserAdmin for Accounts {
    async fn create(&self, op: &Op, users: &[UserSpec]) -> Result<()> {
        let checked = users.iter().map(|user| self.check_new(user)).collect::<Result<Vec<_>>>()?;
        let session = self.client.session(op).await?;
        for (index, user) in checked.iter().enumerate() {
            let twice = checked.iter().take(index).any(|other| other.name == user.name);
            if twice || role_exists(op, &session, &user.name).await? {
                return Err(Error::bad_request(format!("Cannot create user: user {} exists already.", marker(&user.name))));
            }
        }
        for user in &checked {
            self.create_one(op, &session, user).await?;
        }
        Ok(())
    }

    async fn delete(&self, op: &Op, user: &UserSpec) -> Result<()> {
        let of = |error| Error::invalid(format!("Cannot delete user: {error}"));
        self.rules.reserved.check_user(&user.name).map_err(of)?;
        let session = self.client.session(op).await?;
        let role = self.existing(op, &session, &user.name).await?;
        self.drop_role(op, &session, &user.name, &role).await
    }

    async fn list(&self, op: &Op, page: &PageRequest) -> Result<Page<UserSpec>> {
        let session = self.client.session(op).await?;
        let names = self.page(op, &session, page).await?;
        let cut = Page::cut(names, page.limit, |name| marker(name));
        let mut databases = match (cut.items.first(), cut.items.last()) {
            (Some(first), Some(last)) => self.databases_between(op, &session, first, last).await?,
            _ => HashMap::new(),
        };
        let items = cut.items.into_iter().map(|name| {
            let databases = databases.remove(&name).unwrap_or_default();
            spec(name, databases)
        });
        Ok(Page { items: items.collect(), next_marker: cut.next_marker })
    }

    async fn get(&self, op: &Op, name: &str, host: Option<&str>) -> Result<Option<UserSpec>> {
        let session = self.client.session(op).await?;
        if Rules::check_host(host).is_err() || !self.is_user(op, &session, name).await? {
            return Ok(None);
        }
        let databases = access::databases(op, &session, name, &self.rules).await?;
        Ok(Some(spec(name.to_owned(), databases)))
    }

    async fn change_passwords(&self, op: &Op, changes: &[PasswordChange]) -> Result<()> {
        let session = self.client.session(op).await?;
        let mut statements = Vec::with_capacity(changes.len());
        for change in changes {
            Rules::check_password(&change.name, &change.password)?;
            let role = self.existing(op, &session, &change.name).await?;
            statements.push((format!("change the password of {}", change.name), password_statement(&role, &change.password)));
        }
        for (action, sql) in statements {
            session.run(op, action, &sql).await?;
        }
        Ok(())
    }

    async fn update_attributes(&self, op: &Op, name: &str, host: Option<&str>, attributes: &UserAttributes) -> Result<()> {
        Rules::check_host(host)?;
        Rules::check_host(attributes.host.as_deref())?;
        let session = self.client.session(op).await?;
        let old = self.existing(op, &session, name).await?;
        let wanted = attributes.name.as_deref().filter(|wanted| !wanted.is_empty() && *wanted != name);
        let mut changes: Vec<SqlText> = Vec::new();
        let mut role = old.clone();
        if let Some(wanted) = wanted {
            self.rules.check_new_user(wanted)?;
            if role_exists(op, &session, wanted).await? {
                return Err(Error::bad_request(format!("Cannot rename user {}: user {} exists already.", marker(name), marker(wanted))));
            }
            role = Ident::new(wanted)?;
            changes.push(SqlText::new("ALTER ROLE ").ident(&old).raw(" RENAME TO ").ident(&role));
        }
        if let Some(password) = &attributes.password {
            Rules::check_password(wanted.unwrap_or(name), password)?;
            changes.push(password_statement(&role, password));
        }
        // Both or nothing.
        match SqlText::joined(changes) {
            Some(sql) => session.run(op, format!("change user {name}"), &sql).await,
            None => Ok(()),
        }
    }

    async fn list_access(&self, op: &Op, name: &str, _host: Option<&str>) -> Result<Vec<DatabaseSpec>> {
        let session = self.client.session(op).await?;
        self.existing(op, &session, name).await?;
        let databases = access::databases(op, &session, name, &self.rules).await?;
        Ok(databases.into_iter().map(DatabaseSpec::named).collect())
    }

    async fn grant_access(&self, op: &Op, name: &str, host: Option<&str>, databases: &[String]) -> Result<()> {
        Rules::check_host(host)?;
        for database in databases {
            let refused = |_| Error::bad_request(format!("Grant access to {} is not allowed", database.escape_debug()));
            self.rules.check_database(database).map_err(refused)?;
        }
        let session = self.client.session(op).await?;
        self.existing(op, &session, name).await?;
        for database in databases {
            access::grant(op, &self.client, &session, name, database).await?;
        }
        Ok(())
    }

    async fn revoke_access(&self, op: &Op, name: &str, host: Option<&str>, database: &str) -> Result<()> {
        Rules::check_host(host)?;
        let session = self.client.session(op).await?;
        self.existing(op, &session, name).await?;
        match access::revoke(op, &self.client, &session, name, database, &self.rules).await? {
            true => Ok(()),
            false => Err(Error::not_found(format!("Access of user {} to database {database}", marker(name)))),
        }
    }
}
