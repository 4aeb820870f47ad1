//! The agent's role in the database.

use secrecy::SecretString;

use crate::error::Result;
use crate::system::postgresql::{Ident, OS_ADMIN, SqlText, scram_verifier};

/// Statements that make `os_admin` what Train's agent made it, or give it a new password. They stand alone: a fresh database has nobody else to run them.
///
/// # Errors
/// None that can happen: the name is a constant.
pub(super) fn statements(password: &SecretString) -> Result<Vec<SqlText>> {
    let name = Ident::new(OS_ADMIN)?;
    // CREATE ROLE has no IF NOT EXISTS.
    let create = SqlText::new("DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = ")
        .literal(OS_ADMIN)
        .raw(") THEN CREATE ROLE ")
        .ident(&name)
        .raw("; END IF; END $do$");
    let alter = SqlText::new("ALTER ROLE ")
        .ident(&name)
        .raw(" SUPERUSER CREATEDB CREATEROLE INHERIT REPLICATION BYPASSRLS LOGIN CONNECTION LIMIT -1 VALID UNTIL 'infinity' PASSWORD ")
        .secret(&scram_verifier(password));
    // What somebody has set for the role is not for the agent's sessions.
    let reset = SqlText::new("ALTER ROLE ").ident(&name).raw(" RESET ALL");
    Ok(vec![create, alter, reset])
}
