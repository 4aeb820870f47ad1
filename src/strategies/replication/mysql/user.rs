//! The account replicas log in with: one for all replicas of a source.
//!
//! Trove makes one for every replica, and one more every time a replica changes its source, and never drops any.

use super::host::Host;
use super::memory::{KnownUser, Memory};
use super::server::Server;
use crate::error::Result;
use crate::model::ReplicationUser;
use crate::op::Op;
use crate::system::mysql::credentials::random_password;
use crate::system::mysql::{Account, SqlText};

/// What the names of such accounts begin with, before eight hexadecimal digits (Trove's).
const PREFIX: &str = "slave_";
/// MySQL 5.7 takes no more than 32 characters of a replication password.
const PASSWORD_LENGTH: usize = 32;

fn account(name: &str) -> Account {
    Account::new(name, None)
}

/// True for the names that Trove's agents make up.
pub(super) fn is_made_up(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == 8 && rest.chars().all(|c| c.is_ascii_hexdigit()))
}

/// The account of this source, made if it is not there; `must_use_tls` lets nobody log in with it in the clear.
///
/// # Errors
/// The server refused.
pub(super) async fn ensure(
    op: &Op,
    host: &dyn Host,
    server: &mut Server<'_>,
    memory: &mut Memory,
    must_use_tls: bool,
) -> Result<ReplicationUser> {
    let path = host.memory_file();
    if memory.new_source {
        drop_leftovers(op, server, memory.user.as_ref().map(|user| user.name.as_str())).await?;
        memory.new_source = false;
        memory.save(&path)?;
    }
    if memory.user.is_none() {
        let name = format!("{PREFIX}{:08x}", uuid::Uuid::new_v4().as_fields().0);
        memory.user = Some(KnownUser { name, password: random_password(PASSWORD_LENGTH)?, ready: false });
        // Before the account is there: whatever happens next, it is known.
        memory.save(&path)?;
    }
    let Some(user) = &mut memory.user else { unreachable!("it was made above") };
    let account = account(&user.name);
    let there = SqlText::new("SELECT CONVERT(User USING utf8mb4) FROM mysql.user WHERE User = ")
        .literal(&account.user)
        .raw(" AND Host = ")
        .literal(&account.host);
    let exists = !server.column(op, "look for the replication account", &there).await?.is_empty();
    if !(exists && user.ready) {
        if !exists {
            // The statement of an agent that was killed may still be at work.
            let words = server.dialect.words_if_exists("CREATE USER ", "CREATE USER IF NOT EXISTS ");
            let sql = words.account(&account).raw(" IDENTIFIED BY ").secret(&user.password);
            server.run(op, &format!("create user {account}"), &sql).await?;
        }
        let mut sql = SqlText::new("GRANT REPLICATION SLAVE ON *.* TO ").account(&account);
        if must_use_tls && server.dialect.0.has_alter_user() {
            let require = SqlText::new("ALTER USER ").account(&account).raw(" REQUIRE SSL");
            server.run(op, &format!("have user {account} use TLS"), &require).await?;
        } else if must_use_tls {
            sql = sql.raw(" REQUIRE SSL");
        }
        server.run(op, &format!("grant privileges to {account}"), &sql).await?;
        user.ready = true;
    }
    let user = ReplicationUser { name: user.name.clone(), password: user.password.clone() };
    memory.save(&path)?;
    Ok(user)
}

/// Drops accounts of sources this instance followed once; `keep` is its own. Nobody follows it yet, but one who is connected stays.
///
/// # Errors
/// The server refused.
pub(super) async fn drop_leftovers(op: &Op, server: &mut Server<'_>, keep: Option<&str>) -> Result<()> {
    let sql = SqlText::new("SELECT CONVERT(User USING utf8mb4) FROM mysql.user WHERE Host = '%' AND User LIKE 'slave\\_%'");
    let names = server.column(op, "look for accounts of former sources", &sql).await?;
    let connected = server.connected_users(op).await?;
    for name in names.iter().filter(|name| is_made_up(name) && Some(name.as_str()) != keep && !connected.contains(name)) {
        drop_one(op, server, name).await?;
    }
    Ok(())
}

/// Drops an account, if it is there.
///
/// # Errors
/// The server refused.
pub(super) async fn drop_one(op: &Op, server: &mut Server<'_>, name: &str) -> Result<()> {
    let account = account(name);
    let sql = server.dialect.words_if_exists("DROP USER ", "DROP USER IF EXISTS ");
    match server.run(op, &format!("drop user {account}"), &sql.account(&account)).await {
        // ER_CANNOT_USER: it is gone.
        Err(error) if error.database_code() == Some(1396) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_made_up_names_are_taken_for_leftovers() {
        assert!(is_made_up("slave_0a1b2c3d"));
        for other in ["slave_", "slave_of_two", "slave_0a1b2c3", "slave_0a1b2c3g", "Slave_0a1b2c3d", "u"] {
            assert!(!is_made_up(other), "{other}");
        }
    }
}
