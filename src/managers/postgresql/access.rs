//! What a role may do in a database: Trove's grants (trove/guestagent/datastore/postgres/query.py: `AccessQuery`), and the tables that are there already.

use super::names::Rules;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::postgresql::{Client, Ident, Session, SqlText};

/// True when there is a role of this name that can log in.
pub(super) async fn role_exists(op: &Op, session: &Session<'_>, name: &str) -> Result<bool> {
    let sql = SqlText::new("SELECT rolname FROM pg_roles WHERE rolname = ").literal(name);
    Ok(!session.texts(op, format!("look for user {name}"), &sql).await?.is_empty())
}

/// True when there is a database of this name.
pub(super) async fn database_exists(op: &Op, session: &Session<'_>, name: &str) -> Result<bool> {
    let sql = SqlText::new("SELECT datname FROM pg_database WHERE datname = ").literal(name);
    Ok(!session.texts(op, format!("look for database {name}"), &sql).await?.is_empty())
}

/// Rows of role and database for explicit grants, and for what a role owns. `condition` is about the role's name.
pub(super) fn grants_query(rules: &Rules, condition: impl FnOnce(SqlText) -> SqlText) -> SqlText {
    let sql = SqlText::new("SELECT DISTINCT r.rolname::text COLLATE \"C\", d.datname::text COLLATE \"C\" FROM pg_database d ")
        .raw("CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a JOIN pg_roles r ON r.oid = a.grantee ")
        .raw("WHERE NOT d.datistemplate AND d.datname NOT IN (''")
        .raw(", ")
        .literals(rules.reserved.databases())
        .raw(") AND ");
    condition(sql).raw(" ORDER BY 1, 2")
}

/// Databases one role may use.
///
/// # Errors
/// The server refused.
pub(super) async fn databases(op: &Op, session: &Session<'_>, name: &str, rules: &Rules) -> Result<Vec<String>> {
    let sql = grants_query(rules, |sql| sql.raw("r.rolname = ").literal(name));
    let rows = session.rows(op, format!("read the privileges of user {name}"), &sql).await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().nth(1).flatten()).collect())
}

/// Lets a role use a database: all of its schema `public`, too, which since PostgreSQL 15 nobody may create tables in unless told so.
///
/// # Errors
/// There is no such database, or the server refused. Nothing is granted then.
pub(super) async fn grant(op: &Op, client: &Client, session: &Session<'_>, name: &str, database: &str) -> Result<()> {
    if !database_exists(op, session, database).await? {
        return Err(Error::not_found(format!("Database {database}")));
    }
    let (role, quoted) = (Ident::new(name)?, Ident::new(database)?);
    let action = || format!("grant access to database {database} to user {name}");
    let sql = SqlText::new("GRANT ALL ON DATABASE ").ident(&quoted).raw(" TO ").ident(&role);
    session.run(op, action(), &sql).await?;
    let inside = async {
        let session = client.session_in(op, database).await?;
        if has_public(op, &session).await? {
            let sql = in_public("GRANT USAGE, CREATE", " TO ", &role).raw("; ");
            let sql = objects(sql, "GRANT ALL", "TABLES", " TO ", &role).raw("; ");
            let sql = objects(sql, "GRANT ALL", "SEQUENCES", " TO ", &role);
            session.run(op, action(), &sql).await?;
        }
        Ok(())
    };
    let granted: Result<()> = inside.await;
    if granted.is_err() {
        let sql = SqlText::new("REVOKE ALL ON DATABASE ").ident(&quoted).raw(" FROM ").ident(&role);
        session.run(op, format!("take access to database {database} back"), &sql).await.ok();
    }
    granted
}

/// Takes it back; false when there was nothing to take.
///
/// # Errors
/// The server refused.
pub(super) async fn revoke(op: &Op, client: &Client, session: &Session<'_>, name: &str, database: &str, rules: &Rules) -> Result<bool> {
    if !databases(op, session, name, rules).await?.iter().any(|other| other == database) {
        return Ok(false);
    }
    let (role, quoted) = (Ident::new(name)?, Ident::new(database)?);
    let action = || format!("revoke access to database {database} from user {name}");
    let inside = client.session_in(op, database).await?;
    if has_public(op, &inside).await? {
        let sql = in_public("REVOKE ALL", " FROM ", &role).raw("; ");
        let sql = objects(sql, "REVOKE ALL", "TABLES", " FROM ", &role).raw("; ");
        let sql = objects(sql, "REVOKE ALL", "SEQUENCES", " FROM ", &role);
        inside.run(op, action(), &sql).await?;
    }
    drop(inside);
    let sql = SqlText::new("REVOKE ALL ON DATABASE ").ident(&quoted).raw(" FROM ").ident(&role);
    session.run(op, action(), &sql).await?;
    Ok(true)
}

async fn has_public(op: &Op, session: &Session<'_>) -> Result<bool> {
    let sql = SqlText::new("SELECT nspname FROM pg_namespace WHERE nspname = 'public'");
    Ok(!session.texts(op, "look for the schema 'public'", &sql).await?.is_empty())
}

fn in_public(verb: &'static str, to: &'static str, role: &Ident) -> SqlText {
    SqlText::new(verb).raw(" ON SCHEMA public").raw(to).ident(role)
}

fn objects(sql: SqlText, verb: &'static str, kind: &'static str, to: &'static str, role: &Ident) -> SqlText {
    sql.raw(verb).raw(" ON ALL ").raw(kind).raw(" IN SCHEMA public").raw(to).ident(role)
}
