//! The user's own root account, `root@%` ([`RootAccess`]).
//!
//! Trove's disable gives the account a password nobody knows and leaves it there, so that its `is_root_enabled` stays true.
//! Here it is locked besides, where the server can lock accounts (MySQL 5.7.6, MariaDB 10.4.2), and a locked account does not
//! count as enabled: the answer says whether somebody can log in.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use super::accounts::{exists, make, password_statement};
use super::client::{Client, Session};
use super::credentials::random_password;
use super::names::Rules;
use super::quote::{Account, SqlText};
use crate::config::AccountSettings;
use crate::error::{Error, Result};
use crate::managers::RootAccess;
use crate::managers::tls::TlsStore;
use crate::model::UserSpec;
use crate::op::Op;

/// Privileges `root_grant` may name. Program text, so that a setting never becomes SQL by itself.
const PRIVILEGES: &[&str] = &[
    "ALL",
    "ALL PRIVILEGES",
    "ALTER",
    "ALTER ROUTINE",
    "CREATE",
    "CREATE ROLE",
    "CREATE ROUTINE",
    "CREATE TABLESPACE",
    "CREATE TEMPORARY TABLES",
    "CREATE USER",
    "CREATE VIEW",
    "DELETE",
    "DELETE HISTORY",
    "DROP",
    "DROP ROLE",
    "EVENT",
    "EXECUTE",
    "FILE",
    "INDEX",
    "INSERT",
    "LOCK TABLES",
    "PROCESS",
    "REFERENCES",
    "RELOAD",
    "REPLICATION CLIENT",
    "REPLICATION SLAVE",
    "SELECT",
    "SHOW DATABASES",
    "SHOW VIEW",
    "SHUTDOWN",
    "SUPER",
    "TRIGGER",
    "UPDATE",
    "USAGE",
];

/// Root access of one server.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) client: Arc<Client>,
    pub(super) rules: Arc<Rules>,
    pub(super) accounts: AccountSettings,
    pub(super) tls: TlsStore,
}

fn remote_root() -> Account {
    Account::new("root", None)
}

impl Root {
    fn grant_statement(&self) -> Result<SqlText> {
        let mut sql = SqlText::new("GRANT ");
        for (index, wanted) in self.accounts.root_grant.iter().enumerate() {
            let wanted = wanted.split_whitespace().collect::<Vec<_>>().join(" ");
            let known = PRIVILEGES.iter().find(|known| known.eq_ignore_ascii_case(&wanted));
            let known = known.ok_or_else(|| {
                Error::guest(format!("root_grant names '{wanted}', which is not a privilege: correct the guest's configuration"))
            })?;
            sql = sql.raw(if index == 0 { "" } else { ", " }).raw(known);
        }
        sql = sql.raw(" ON *.* TO ").account(&remote_root());
        Ok(if self.accounts.root_grant_option { sql.raw(" WITH GRANT OPTION") } else { sql })
    }

    async fn set(&self, op: &Op, session: &mut Session<'_>, password: &SecretString) -> Result<()> {
        let root = remote_root();
        if !exists(op, session, &root).await? {
            return make(op, session, &root, password, self.tls.mode()?).await;
        }
        let sql = password_statement(session, &root, password);
        session.run(op, format!("change the password of {root}"), &sql).await
    }
}

#[async_trait]
impl RootAccess for Root {
    async fn is_enabled(&self, op: &Op) -> Result<bool> {
        let mut session = self.client.session(op).await?;
        let sql = SqlText::new("SELECT CONVERT(Host USING utf8mb4) FROM mysql.user WHERE User = 'root' AND Host <> 'localhost'");
        let hosts: Vec<String> = session.rows(op, "look for a remote root account", &sql).await?;
        let mut enabled = false;
        for host in &hosts {
            enabled |= !is_locked(op, &mut session, &Account::new("root", Some(host))).await?;
        }
        session.close().await;
        Ok(enabled)
    }

    async fn enable(&self, op: &Op, password: Option<SecretString>) -> Result<UserSpec> {
        let password = match password {
            Some(password) => {
                self.rules.check_password("root", &password)?;
                password
            }
            None => random_password(self.accounts.password_length)?,
        };
        let grant = self.grant_statement()?;
        let root = remote_root();
        let mut session = self.client.session(op).await?;
        self.set(op, &mut session, &password).await?;
        session.run(op, format!("grant privileges to {root}"), &grant).await?;
        if session.flavor().has_account_lock() {
            session.run(op, format!("unlock {root}"), &SqlText::new("ALTER USER ").account(&root).raw(" ACCOUNT UNLOCK")).await?;
        }
        session.close().await;
        Ok(UserSpec { name: root.user, password: Some(password), host: Some(root.host), databases: Vec::new(), is_root: true })
    }

    async fn disable(&self, op: &Op) -> Result<()> {
        let root = remote_root();
        let mut session = self.client.session(op).await?;
        if exists(op, &mut session, &root).await? {
            if session.flavor().has_account_lock() {
                session.run(op, format!("lock {root}"), &SqlText::new("ALTER USER ").account(&root).raw(" ACCOUNT LOCK")).await?;
            }
            self.set(op, &mut session, &random_password(self.accounts.password_length)?).await?;
        }
        session.close().await;
        Ok(())
    }
}

async fn is_locked(op: &Op, session: &mut Session<'_>, account: &Account) -> Result<bool> {
    if !session.flavor().has_account_lock() {
        return Ok(false);
    }
    if session.flavor().is_mariadb() {
        // The lock is inside a JSON document of mysql.global_priv; this statement shows it whatever the document's form.
        let sql = SqlText::new("SHOW CREATE USER ").account(account);
        let shown: Vec<String> = session.rows(op, format!("look at account {account}"), &sql).await?;
        return Ok(shown.iter().any(|text| text.contains(" ACCOUNT LOCK")));
    }
    let sql = SqlText::new("SELECT account_locked FROM mysql.user WHERE User = ")
        .literal(&account.user)
        .raw(" AND Host = ")
        .literal(&account.host);
    let locked: Vec<String> = session.rows(op, format!("look at account {account}"), &sql).await?;
    Ok(locked.iter().any(|flag| flag == "Y"))
}
