//! Looking at a restored database: every table of it is checked by a server of its own.

use std::time::Duration;

use super::flavor::Flavor;
use super::private_server::{Access, PrivateServerSpec};
use super::quote::SqlText;
use crate::error::{Result, ResultExt};
use crate::managers::drill::{Examination, Items};
use crate::op::Op;
use crate::system::command::CommandSpec;

/// Programs that check tables, best first.
pub(super) const CHECKS: [&str; 2] = ["mariadb-check", "mysqlcheck"];
/// Every page of every table is read.
const DEADLINE: Duration = Duration::from_secs(12 * 3600);
/// More problems than these are not told one by one.
const TOLD: usize = 20;

/// Starts the server, has `program` check every table, and ends the server.
///
/// # Errors
/// There is no server to be started on it, or it does not end well.
pub(super) async fn examine(op: &Op, spec: &PrivateServerSpec, program: &str, flavor: Flavor) -> Result<Examination> {
    let server = spec.start(op, Access::Everybody).await?;
    let mut session = server.session(op).await?;
    let count = SqlText::new(
        "SELECT (SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN \
         ('mysql', 'sys', 'information_schema', 'performance_schema')), \
         (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN \
         ('mysql', 'sys', 'information_schema', 'performance_schema'))",
    );
    let counts: Vec<(u64, u64)> = session.rows(op, "count the tables", &count).await?;
    session.close().await;
    let check = CommandSpec::new(program)
        .args(["--no-defaults", "--user=root", "--check", "--all-databases", "--silent"])
        .arg(format!("--socket={}", spec.socket()))
        .timeout(DEADLINE);
    let said = spec.service.exec(op, check).await.action("check the tables")?;
    server.stop(op).await?;
    let (databases, tables) = counts.first().copied().unwrap_or_default();
    let items = Items { name: "tables", count: tables };
    Ok(Examination { server: flavor.to_string(), databases, items, problems: problems(&said.stdout) })
}

/// `mysqlcheck --silent` names a table and then says what is wrong with it: `error    : Corrupt`. Notes (a view, an engine without a check) are
/// no problems.
fn problems(output: &str) -> Vec<String> {
    let mut table = "";
    let mut found = Vec::new();
    for line in output.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.split_once(':').map(|(kind, words)| (kind.trim(), words.trim())) {
            Some((kind, words)) if kind.eq_ignore_ascii_case("error") => found.push(format!("{table}: {words}")),
            Some((kind, _)) if ["note", "info", "warning", "status"].iter().any(|other| kind.eq_ignore_ascii_case(other)) => {}
            _ => table = line.split_whitespace().next().unwrap_or(line),
        }
    }
    let more = found.len().saturating_sub(TOLD);
    found.truncate(TOLD);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_are_problems() {
        let output = "shop.items\nwarning  : 1 client is using or hasn't closed the table properly\nerror    : Corrupt\n\
                      shop.a:b\nError    : Table './shop/ab' is marked as crashed\nerror    : Corrupt\nsys.host_summary\nnote     : is a view\n";
        let found = problems(output);
        assert_eq!(found, ["shop.items: Corrupt", "shop.a:b: Table './shop/ab' is marked as crashed", "shop.a:b: Corrupt"]);
        assert!(problems("").is_empty());
    }
}
