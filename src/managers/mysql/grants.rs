//! Privileges on databases: rows of `mysql.db`, whose names are LIKE patterns.

use super::client::Session;
use super::names::Rules;
use super::quote::{Account, Ident, SqlText, unescape_pattern};
use crate::error::Result;
use crate::op::Op;

/// Grants everything on `database` to `account`.
pub(super) async fn grant(op: &Op, session: &mut Session<'_>, account: &Account, database: &str) -> Result<()> {
    let database = if session.lower_case_names() { database.to_lowercase() } else { database.to_owned() };
    let sql = SqlText::new("GRANT ALL PRIVILEGES ON ").ident(&Ident::grant_pattern(&database)?).raw(".* TO ").account(account);
    session.run(op, format!("grant {account} access to database {database}"), &sql).await
}

/// Takes back everything on `database`: also what an agent that did not escape names has granted. False when there was nothing.
pub(super) async fn revoke(op: &Op, session: &mut Session<'_>, account: &Account, database: &str) -> Result<bool> {
    let wanted = if session.lower_case_names() { database.to_lowercase() } else { database.to_owned() };
    let patterns = patterns(op, session, account).await?;
    let mut found = false;
    for pattern in patterns.iter().filter(|pattern| unescape_pattern(pattern) == wanted) {
        let sql = SqlText::new("REVOKE ALL PRIVILEGES ON ").ident(&Ident::new(pattern)?).raw(".* FROM ").account(account);
        session.run(op, format!("revoke access of {account} to database {database}"), &sql).await?;
        found = true;
    }
    Ok(found)
}

/// Databases `account` may use, by name; reserved ones are not shown.
pub(super) async fn databases(op: &Op, session: &mut Session<'_>, account: &Account, rules: &Rules) -> Result<Vec<String>> {
    let patterns = patterns(op, session, account).await?;
    Ok(names(patterns, rules))
}

/// Patterns as names: unescaped, sorted, each once.
pub(super) fn names(patterns: impl IntoIterator<Item = String>, rules: &Rules) -> Vec<String> {
    let mut names: Vec<String> = patterns.into_iter().map(|pattern| unescape_pattern(&pattern)).collect();
    names.retain(|name| rules.check_database_reserved(name).is_ok());
    names.sort();
    names.dedup();
    names
}

async fn patterns(op: &Op, session: &mut Session<'_>, account: &Account) -> Result<Vec<String>> {
    let sql = SqlText::new("SELECT CONVERT(Db USING utf8mb4) FROM mysql.db WHERE User = ")
        .literal(&account.user)
        .raw(" AND Host = ")
        .literal(&account.host);
    session.rows(op, format!("read the privileges of {account}"), &sql).await
}
