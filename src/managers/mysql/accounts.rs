//! Users ([`UserAdmin`]).
//!
//! Semantics of trove/guestagent/datastore/mysql_common/service.py (`BaseMySqlAdmin`), where it has any: an account that does
//! not exist is `NotFound` here, where Python fell over its own `None`.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use super::client::{Client, Session};
use super::grants;
use super::names::Rules;
use super::quote::{Account, SqlText};
use super::tls;
use crate::config::TlsMode;
use crate::error::{Error, Result};
use crate::managers::UserAdmin;
use crate::managers::paging::{Order, paged};
use crate::managers::tls::TlsStore;
use crate::model::{DatabaseSpec, Page, PageRequest, PasswordChange, UserAttributes, UserSpec};
use crate::op::Op;

/// Users of one server.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) client: Arc<Client>,
    pub(super) rules: Arc<Rules>,
    pub(super) tls: TlsStore,
}

/// `User@Host` in bytes: the order of lists and of markers, whatever the collation of `mysql.user`.
const MARKER: &str = "CAST(CONCAT(User, '@', Host) AS BINARY)";

/// One row of `mysql.user`.
pub(super) async fn exists(op: &Op, session: &mut Session<'_>, account: &Account) -> Result<bool> {
    let sql = SqlText::new("SELECT User FROM mysql.user WHERE User = ").literal(&account.user).raw(" AND Host = ").literal(&account.host);
    Ok(!session.rows::<String>(op, format!("look for user {account}"), &sql).await?.is_empty())
}

/// Creates an account that must use what the instance's TLS demands.
pub(super) async fn make(
    op: &Op,
    session: &mut Session<'_>,
    account: &Account,
    password: &SecretString,
    mode: Option<TlsMode>,
) -> Result<()> {
    let mut sql = SqlText::new("CREATE USER ").account(account).raw(" IDENTIFIED BY ").secret(password);
    let demands = matches!(mode, Some(TlsMode::Enforced | TlsMode::Mtls));
    let at_once = session.flavor().has_alter_user();
    if demands && at_once {
        sql = sql.raw(tls::requirement(mode));
    }
    session.run(op, format!("create user {account}"), &sql).await?;
    if demands && !at_once {
        let sql = tls::require_statement(session.flavor(), account, mode);
        session.run(op, format!("set what {account} must use"), &sql).await?;
    }
    Ok(())
}

/// Sets a password in the words of this server.
pub(super) fn password_statement(session: &Session<'_>, account: &Account, password: &SecretString) -> SqlText {
    if session.flavor().has_alter_user() {
        SqlText::new("ALTER USER ").account(account).raw(" IDENTIFIED BY ").secret(password)
    } else {
        SqlText::new("SET PASSWORD FOR ").account(account).raw(" = PASSWORD(").secret(password).raw(")")
    }
}

fn not_found(account: &Account) -> Error {
    Error::not_found(format!("User {account}"))
}

struct NewUser {
    account: Account,
    password: SecretString,
    databases: Vec<String>,
}

impl Accounts {
    fn check_new(&self, user: &UserSpec, session: &Session<'_>) -> Result<NewUser> {
        let account = Account::new(user.name.as_str(), user.host.as_deref());
        self.rules.check_account(&account, session.flavor()).map_err(|error| Error::invalid(format!("Cannot create user: {error}")))?;
        // Python would create an account that everybody can use.
        let password =
            user.password.clone().ok_or_else(|| Error::invalid(format!("Cannot create user: user {account} has no password")))?;
        self.rules.check_password(&user.name, &password)?;
        for database in &user.databases {
            self.rules.check_database_name(&database.name)?;
            self.rules.check_database_reserved(&database.name)?;
        }
        Ok(NewUser { account, password, databases: user.databases.iter().map(|database| database.name.clone()).collect() })
    }

    /// The account a caller means: not reserved, and there (Python's `_get_user`).
    async fn find(&self, op: &Op, session: &mut Session<'_>, name: &str, host: Option<&str>) -> Result<Option<Account>> {
        if let Err(error) = self.rules.check_user_reserved(name) {
            return Err(Error::bad_request(format!("Username {name} is not valid: {error}")));
        }
        let account = Account::new(name, host);
        if account.host == "localhost" || name.is_empty() || !exists(op, session, &account).await? {
            return Ok(None);
        }
        Ok(Some(account))
    }

    async fn existing(&self, op: &Op, session: &mut Session<'_>, name: &str, host: Option<&str>) -> Result<Account> {
        self.find(op, session, name, host).await?.ok_or_else(|| not_found(&Account::new(name, host)))
    }

    async fn create_one(&self, op: &Op, session: &mut Session<'_>, user: &NewUser) -> Result<()> {
        make(op, session, &user.account, &user.password, self.tls.mode()?).await?;
        for database in &user.databases {
            if let Err(error) = grants::grant(op, session, &user.account, database).await {
                // An account without its grants is in the way of the next attempt.
                let sql = SqlText::new("DROP USER ").account(&user.account);
                session.run(op, format!("drop user {}", user.account), &sql).await.ok();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Rows of the page asked for, and one more when there are more.
    async fn page(&self, op: &Op, session: &mut Session<'_>, page: &PageRequest) -> Result<Vec<(String, String)>> {
        let mut sql = SqlText::new(
            "SELECT CONVERT(User USING utf8mb4), CONVERT(Host USING utf8mb4) FROM mysql.user WHERE Host <> 'localhost' AND User <> ''",
        )
        .raw(" AND LOWER(CONVERT(User USING utf8mb4)) NOT IN (''")
        .raw(", ")
        .literals(self.rules.ignore_users())
        .raw(")");
        if session.flavor().has_role_column() {
            sql = sql.raw(" AND is_role = 'N'");
        }
        let sql = paged(sql, &Order { by: MARKER, marker: ["CAST(", " AS BINARY)"] }, page);
        session.rows(op, "list users", &sql).await
    }

    /// Databases of the accounts between two markers.
    async fn databases_between(
        &self,
        op: &Op,
        session: &mut Session<'_>,
        first: &str,
        last: &str,
    ) -> Result<HashMap<(String, String), Vec<String>>> {
        let sql =
            SqlText::new("SELECT CONVERT(User USING utf8mb4), CONVERT(Host USING utf8mb4), CONVERT(Db USING utf8mb4) FROM mysql.db WHERE ")
                .raw(MARKER)
                .raw(" BETWEEN CAST(")
                .literal(first)
                .raw(" AS BINARY) AND CAST(")
                .literal(last)
                .raw(" AS BINARY)");
        let mut databases: HashMap<(String, String), Vec<String>> = HashMap::new();
        for (user, host, database) in session.rows::<(String, String, String)>(op, "read privileges on databases", &sql).await? {
            databases.entry((user, host)).or_default().push(database);
        }
        Ok(databases)
    }
}

fn spec(account: Account, databases: Vec<String>) -> UserSpec {
    UserSpec {
        name: account.user,
        password: None,
        host: Some(account.host),
        databases: databases.into_iter().map(DatabaseSpec::named).collect(),
        is_root: false,
    }
}

#[async_trait]
impl UserAdmin for Accounts {
    async fn create(&self, op: &Op, users: &[UserSpec]) -> Result<()> {
        let mut session = self.client.session(op).await?;
        let checked = users.iter().map(|user| self.check_new(user, &session)).collect::<Result<Vec<_>>>()?;
        for (index, user) in checked.iter().enumerate() {
            let twice = checked.iter().take(index).any(|other| other.account == user.account);
            if twice || exists(op, &mut session, &user.account).await? {
                return Err(Error::bad_request(format!("Cannot create user: user {} exists already.", user.account)));
            }
        }
        for user in &checked {
            self.create_one(op, &mut session, user).await?;
        }
        session.close().await;
        Ok(())
    }

    async fn delete(&self, op: &Op, user: &UserSpec) -> Result<()> {
        let account = Account::new(user.name.as_str(), user.host.as_deref());
        self.rules.check_user_reserved(&account.user).map_err(|error| Error::invalid(format!("Cannot delete user: {error}")))?;
        let mut session = self.client.session(op).await?;
        if account.user.is_empty() || !exists(op, &mut session, &account).await? {
            return Err(not_found(&account));
        }
        session.run(op, format!("drop user {account}"), &SqlText::new("DROP USER ").account(&account)).await?;
        session.close().await;
        Ok(())
    }

    async fn list(&self, op: &Op, page: &PageRequest) -> Result<Page<UserSpec>> {
        let mut session = self.client.session(op).await?;
        let rows = self.page(op, &mut session, page).await?;
        let cut = Page::cut(rows, page.limit, |(user, host)| format!("{user}@{host}"));
        let marker = |row: Option<&(String, String)>| row.map(|(user, host)| format!("{user}@{host}")).unwrap_or_default();
        let mut databases = match cut.items.is_empty() {
            true => HashMap::new(),
            false => self.databases_between(op, &mut session, &marker(cut.items.first()), &marker(cut.items.last())).await?,
        };
        session.close().await;
        let items = cut.items.into_iter().map(|(user, host)| {
            let patterns = databases.remove(&(user.clone(), host.clone())).unwrap_or_default();
            spec(Account { user, host }, grants::names(patterns, &self.rules))
        });
        Ok(Page { items: items.collect(), next_marker: cut.next_marker })
    }

    async fn get(&self, op: &Op, name: &str, host: Option<&str>) -> Result<Option<UserSpec>> {
        let mut session = self.client.session(op).await?;
        let Some(account) = self.find(op, &mut session, name, host).await? else { return Ok(None) };
        let databases = grants::databases(op, &mut session, &account, &self.rules).await?;
        session.close().await;
        Ok(Some(spec(account, databases)))
    }

    async fn change_passwords(&self, op: &Op, changes: &[PasswordChange]) -> Result<()> {
        let mut session = self.client.session(op).await?;
        let mut statements = Vec::with_capacity(changes.len());
        for change in changes {
            self.rules.check_password(&change.name, &change.password)?;
            let account = self.existing(op, &mut session, &change.name, change.host.as_deref()).await?;
            statements.push((format!("change the password of {account}"), password_statement(&session, &account, &change.password)));
        }
        for (action, sql) in statements {
            session.run(op, action, &sql).await?;
        }
        session.close().await;
        Ok(())
    }

    async fn update_attributes(&self, op: &Op, name: &str, host: Option<&str>, attributes: &UserAttributes) -> Result<()> {
        let mut session = self.client.session(op).await?;
        let old = self.existing(op, &mut session, name, host).await?;
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let new_host = filled(&attributes.host).unwrap_or_else(|| old.host.clone());
        let new = Account::new(filled(&attributes.name).unwrap_or_else(|| old.user.clone()), Some(&new_host));
        if let Some(password) = &attributes.password {
            self.rules.check_password(&new.user, password)?;
        }
        if new != old {
            self.rules.check_account(&new, session.flavor())?;
            if exists(op, &mut session, &new).await? {
                return Err(Error::bad_request(format!("Cannot rename user {old}: user {new} exists already.")));
            }
            session.run(op, format!("rename user {old} to {new}"), &rename(&old, &new)).await?;
        }
        if let Some(password) = &attributes.password {
            let sql = password_statement(&session, &new, password);
            if let Err(error) = session.run(op, format!("change the password of {new}"), &sql).await {
                // Both or nothing.
                if new != old {
                    session.run(op, format!("rename user {new} to {old}"), &rename(&new, &old)).await.ok();
                }
                return Err(error);
            }
        }
        session.close().await;
        Ok(())
    }

    async fn list_access(&self, op: &Op, name: &str, host: Option<&str>) -> Result<Vec<DatabaseSpec>> {
        let mut session = self.client.session(op).await?;
        let account = self.existing(op, &mut session, name, host).await?;
        let databases = grants::databases(op, &mut session, &account, &self.rules).await?;
        session.close().await;
        Ok(databases.into_iter().map(DatabaseSpec::named).collect())
    }

    async fn grant_access(&self, op: &Op, name: &str, host: Option<&str>, databases: &[String]) -> Result<()> {
        for database in databases {
            self.rules
                .check_database_name(database)
                .and_then(|()| self.rules.check_database_reserved(database))
                .map_err(|_| Error::bad_request(format!("Grant access to {} is not allowed", database.escape_debug())))?;
        }
        let mut session = self.client.session(op).await?;
        let account = self.existing(op, &mut session, name, host).await?;
        for database in databases {
            grants::grant(op, &mut session, &account, database).await?;
        }
        session.close().await;
        Ok(())
    }

    async fn revoke_access(&self, op: &Op, name: &str, host: Option<&str>, database: &str) -> Result<()> {
        let mut session = self.client.session(op).await?;
        let account = self.existing(op, &mut session, name, host).await?;
        if !grants::revoke(op, &mut session, &account, database).await? {
            return Err(Error::not_found(format!("Access of user {account} to database {database}")));
        }
        session.close().await;
        Ok(())
    }
}

fn rename(old: &Account, new: &Account) -> SqlText {
    SqlText::new("RENAME USER ").account(old).raw(" TO ").account(new)
}
