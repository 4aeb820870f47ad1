//! The account replicas log in with: one for a source and all that follow it, who have it with everything else.

use secrecy::SecretString;

use super::memory::Memory;
use crate::error::{Error, Result};
use crate::model::ReplicationUser;
use crate::op::Op;
use crate::strategies::replication::postgresql::Host;
use crate::system::password::random_password;
use crate::system::postgresql::{Ident, Session, SqlText, scram_verifier};

/// Its name (trove/guestagent/datastore/postgres/service.py: `REPLICATION_USER`).
pub(super) const NAME: &str = "replicator";
const PASSWORD_LENGTH: usize = 32;
/// What `pg_rewind` reads a source with (manual, "pg_rewind": "Notes"), and which files of its log there are. Trove's agents make it a superuser for that.
const FUNCTIONS: &str = "pg_catalog.pg_ls_waldir(), pg_catalog.pg_ls_dir(text, boolean, boolean), pg_catalog.pg_stat_file(text, boolean), \
    pg_catalog.pg_read_binary_file(text), pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)";

async fn exists(op: &Op, session: &Session<'_>) -> Result<bool> {
    let sql = SqlText::new("SELECT rolname FROM pg_roles WHERE rolreplication AND rolcanlogin AND rolname = ").literal(NAME);
    Ok(!session.texts(op, "look for the replication account", &sql).await?.is_empty())
}

/// Makes it what it has to be.
async fn make(op: &Op, session: &Session<'_>, password: &SecretString) -> Result<()> {
    let name = Ident::new(NAME)?;
    let create = SqlText::new("DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = ")
        .literal(NAME)
        .raw(") THEN CREATE ROLE ")
        .ident(&name)
        .raw("; END IF; END $do$");
    let alter = SqlText::new("ALTER ROLE ")
        .ident(&name)
        .raw(" NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS LOGIN REPLICATION CONNECTION LIMIT -1 VALID UNTIL 'infinity' PASSWORD ")
        .secret(&scram_verifier(password));
    let grant = SqlText::new("GRANT EXECUTE ON FUNCTION ").raw(FUNCTIONS).raw(" TO ").ident(&name);
    let Some(sql) = SqlText::joined(vec![create, alter, grant]) else { return Ok(()) };
    session.run(op, "make the replication account", &sql).await
}

/// The account of this source, made if it is not there. One that nothing can be written to has its source's.
///
/// # Errors
/// The server refused; or nobody has told its password.
pub(super) async fn ensure(op: &Op, host: &dyn Host, session: &Session<'_>, is_standby: bool) -> Result<ReplicationUser> {
    let path = host.memory_file();
    let mut memory = Memory::load(&path)?;
    let password = match memory.password.take() {
        Some(password) => password,
        None if is_standby => {
            return Err(Error::guest("this replica does not know the replication account: attach it to its source again"));
        }
        None => {
            let password = random_password(PASSWORD_LENGTH)?;
            // An account of this name, of whatever was restored here, has another one.
            make(op, session, &password).await?;
            password
        }
    };
    if !is_standby && !exists(op, session).await? {
        make(op, session, &password).await?;
    }
    memory.password = Some(password.clone());
    memory.save(&path)?;
    Ok(ReplicationUser { name: NAME.to_owned(), password })
}

/// Drops it, if it is there: nobody follows this server.
///
/// # Errors
/// The server refused.
pub(super) async fn drop_it(op: &Op, session: &Session<'_>) -> Result<()> {
    let sql = SqlText::new("SELECT rolname FROM pg_roles WHERE rolname = ").literal(NAME);
    if session.texts(op, "look for the replication account", &sql).await?.is_empty() {
        return Ok(());
    }
    let name = Ident::new(NAME)?;
    let owned = SqlText::new("DROP OWNED BY ").ident(&name);
    let Some(sql) = SqlText::joined(vec![owned, SqlText::new("DROP ROLE ").ident(&name)]) else { return Ok(()) };
    session.run(op, "drop the replication account", &sql).await
}
