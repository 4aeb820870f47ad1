//! The user's own root account ([`RootAccess`]): the role `postgres`, as with Trove. It always is a superuser; without a password it can log in as the account
//! `postgres` of the guest only.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

use super::access::role_exists;
use super::accounts::password_statement;
use super::names::{ANY_HOST, Rules};
use crate::error::Result;
use crate::managers::RootAccess;
use crate::model::UserSpec;
use crate::op::Op;
use crate::system::password::random_password;
use crate::system::postgresql::{Client, Ident, OS_ADMIN, SqlText};

/// trove/common/db/postgresql/models.py: `PostgreSQLUser.root_username`.
const NAME: &str = "postgres";

/// Root access of one server.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) client: Arc<Client>,
    pub(super) password_length: usize,
}

#[async_trait]
impl RootAccess for Root {
    /// Any superuser with a password counts: a root may have made others.
    async fn is_enabled(&self, op: &Op) -> Result<bool> {
        let session = self.client.session(op).await?;
        let sql = SqlText::new("SELECT rolname FROM pg_authid WHERE rolsuper AND rolcanlogin AND rolpassword IS NOT NULL AND rolname <> ");
        Ok(!session.texts(op, "look for a superuser that can log in", &sql.literal(OS_ADMIN)).await?.is_empty())
    }

    async fn enable(&self, op: &Op, password: Option<SecretString>) -> Result<UserSpec> {
        let password = match password {
            Some(password) => {
                Rules::check_password(NAME, &password)?;
                password
            }
            None => random_password(self.password_length)?,
        };
        let session = self.client.session(op).await?;
        let role = Ident::new(NAME)?;
        let mut changes = Vec::new();
        if !role_exists(op, &session, NAME).await? {
            changes.push(SqlText::new("CREATE ROLE ").ident(&role));
        }
        // Train's agent had taken these away.
        changes.push(SqlText::new("ALTER ROLE ").ident(&role).raw(" SUPERUSER CREATEDB CREATEROLE INHERIT REPLICATION BYPASSRLS LOGIN"));
        changes.push(password_statement(&role, &password));
        if let Some(sql) = SqlText::joined(changes) {
            session.run(op, "enable root", &sql).await?;
        }
        Ok(UserSpec { name: NAME.into(), password: Some(password), host: Some(ANY_HOST.into()), databases: Vec::new(), is_root: true })
    }

    async fn disable(&self, op: &Op) -> Result<()> {
        let session = self.client.session(op).await?;
        if role_exists(op, &session, NAME).await? {
            let sql = SqlText::new("ALTER ROLE ").ident(&Ident::new(NAME)?).raw(" PASSWORD NULL");
            session.run(op, "disable root", &sql).await?;
        }
        Ok(())
    }
}
