//! Looking at a restored database: its files are compared with the backup's own list of them, a server of the agent's own recovers it and checks every table and
//! index, and every page's checksum is computed.

use std::time::Duration;

use super::private_server::{PrivateServer, PrivateServerSpec};
use crate::error::{Result, ResultExt};
use crate::managers::Reserved;
use crate::managers::drill::{Examination, Items};
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::system::postgresql::SqlText;

/// Every page of every table is read.
const DEADLINE: Duration = Duration::from_secs(12 * 3600);
/// More problems than these are not told one by one.
const TOLD: usize = 20;
/// Since PostgreSQL 13 a base backup has a list of its files.
const MANIFEST: &str = "backup_manifest";
/// The first version with `pg_amcheck`.
const AMCHECK: u16 = 14;
/// The first version with `pg_checksums`.
const CHECKSUMS: u16 = 12;

/// Looks at all of it. `reserved` are the databases that are not users'.
///
/// # Errors
/// There is no server to be started on it, or it does not end well.
pub(super) async fn examine(op: &Op, spec: &PrivateServerSpec, reserved: &Reserved) -> Result<Examination> {
    let version = spec.program.version(op).await?;
    let mut problems = compare_files(op, spec).await.action("compare the files with the backup's list")?;
    let server = spec.start(op).await?;
    let (databases, tables) = count(op, &server, reserved).await?;
    if version.0 >= AMCHECK {
        problems.extend(check_tables(op, spec, &server).await.action("check the tables")?);
    }
    let has_checksums =
        has(op, &server, SqlText::new("SELECT name FROM pg_settings WHERE name = 'data_checksums' AND setting = 'on'")).await?;
    server.stop(op).await?;
    if has_checksums && version.0 >= CHECKSUMS {
        problems.extend(check_pages(op, spec).await.action("check the pages")?);
    }
    let more = problems.len().saturating_sub(TOLD);
    problems.truncate(TOLD);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    Ok(Examination { server: version.to_string(), databases, items: Items { name: "tables", count: tables }, problems })
}

async fn compare_files(op: &Op, spec: &PrivateServerSpec) -> Result<Vec<String>> {
    if !spec.directory.join(MANIFEST).is_file() {
        return Ok(Vec::new());
    }
    let verify = spec.program.command(op, "pg_verifybackup").await?.arg("--quiet").arg(spec.directory.as_str());
    run(op, spec, verify, &[1]).await
}

async fn check_tables(op: &Op, spec: &PrivateServerSpec, server: &PrivateServer) -> Result<Vec<String>> {
    if !has(op, server, SqlText::new("SELECT name FROM pg_available_extensions WHERE name = 'amcheck'")).await? {
        return Ok(Vec::new());
    }
    let check = spec.program.command(op, "pg_amcheck").await?.args(server.arguments()).args(["--all", "--install-missing"]);
    run(op, spec, check, &[1, 2]).await
}

async fn check_pages(op: &Op, spec: &PrivateServerSpec) -> Result<Vec<String>> {
    let check = spec.program.command(op, "pg_checksums").await?.arg("--check").arg(format!("--pgdata={}", spec.directory));
    run(op, spec, check, &[1]).await
}

/// Runs a program that looks for damage; returns what it found, nothing when it ended with 0.
async fn run(op: &Op, spec: &PrivateServerSpec, command: CommandSpec, found: &[i32]) -> Result<Vec<String>> {
    let output = spec.service.exec(op, command.accept(found).timeout(DEADLINE)).await?;
    if output.code == 0 {
        return Ok(Vec::new());
    }
    let said = findings(&output.stdout, &output.stderr);
    Ok(if said.is_empty() { vec![format!("a check ended with {}", output.code)] } else { said })
}

/// Of its output every line that is no summary; a line that is indented goes on with the one before.
fn findings(stdout: &str, stderr: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in stdout.lines().chain(stderr.lines()).filter(|line| !line.trim().is_empty()) {
        let is_summary = ["Checksum operation completed", "Files scanned:", "Blocks scanned:", "Bad checksums:", "Data checksum version:"];
        match found.last_mut() {
            _ if is_summary.iter().any(|summary| line.starts_with(summary)) => {}
            Some(last) if line.starts_with(' ') => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => found.push(line.trim().to_owned()),
        }
    }
    found
}

/// True when a query has a row.
async fn has(op: &Op, server: &PrivateServer, sql: SqlText) -> Result<bool> {
    Ok(!server.session(op).await?.texts(op, "look at the restored database", &sql).await?.is_empty())
}

/// Databases of users, and the tables in them.
async fn count(op: &Op, server: &PrivateServer, reserved: &Reserved) -> Result<(u64, u64)> {
    let sql = SqlText::new("SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datname NOT IN (''")
        .raw(", ")
        .literals(reserved.databases())
        .raw(")");
    let databases = server.session(op).await?.texts(op, "list the databases", &sql).await?;
    let sql = SqlText::new("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') ")
        .raw("AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'");
    let mut tables = 0;
    for database in &databases {
        let session = server.session_in(op, database).await?;
        let counted = session.texts(op, format!("count the tables of {database}"), &sql).await?;
        tables += counted.first().and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok((databases.len() as u64, tables))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_whole_and_summaries_are_none() {
        let stdout = "heap table \"shop.public.items\", block 0, offset 3:\n    xmin 4294967295 equals or exceeds next valid transaction ID\n\
                      Checksum operation completed\nBad checksums:  1\n";
        let stderr = "pg_checksums: error: checksum verification failed in file \"x\", block 7\n\n";
        let found = findings(stdout, stderr);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].ends_with("offset 3: xmin 4294967295 equals or exceeds next valid transaction ID"));
        assert!(found[1].contains("block 7"));
    }
}
