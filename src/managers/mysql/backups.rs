//! [`MySqlBackups`]: which tool backs up and restores on this guest ([`Backups`]).

use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};

use super::bootstrap;
use super::client::Client;
use super::examine;
use super::flavor::Flavor;
use super::foreign;
use super::layout::Layout;
use super::load::{CLIENTS, LoadRestore};
use super::private_server::{self, Access, PrivateServerSpec};
use super::quote::SqlText;
use super::server::ServerProgram;
use super::upgrade;
use crate::config::Settings;
use crate::error::{Error, Result, ResultExt};
use crate::managers::drill::Examination;
use crate::managers::restoring::{Clear, HalfRestored, Instance, Restoring};
use crate::managers::{Backups, Owner, RestoreTarget};
use crate::op::Op;
use crate::strategies::backup::mysql::{HotBackup, HotRestore, HotTool, MySqlDump, MySqlUsage, Strategy};
use crate::strategies::backup::{BackupRunner, RestoreRunner, RestoreStep, ToolLogin, Usage};
use crate::system::command::CommandSpec;
use crate::system::files;
use crate::system::service::ServiceControl;

/// Programs that dump, best first.
const DUMPS: [&str; 2] = ["mariadb-dump", "mysqldump"];
/// Beside the data directory: where incremental backups are unpacked.
const ASIDE: &str = ".trove-restore";

/// Backups of one server.
#[derive(Debug)]
pub(super) struct MySqlBackups {
    pub(super) settings: Arc<Settings>,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) layout: Layout,
    pub(super) program: Arc<ServerProgram>,
    pub(super) client: Arc<Client>,
    pub(super) owner: Owner,
}

/// The hot tool of a server.
fn tool_of(flavor: Flavor) -> HotTool {
    // mariabackup came with 10.1.
    if flavor.is_mariadb() && flavor.version >= (10, 1, 0) { HotTool::MariaBackup } else { HotTool::XtraBackup }
}

/// True when this version of the tool reads the files of this server: `xtrabackup` 2.x up to MySQL 5.7, then each series its own.
fn fits(tool: HotTool, said: &str, flavor: Flavor) -> bool {
    if tool == HotTool::MariaBackup {
        return true;
    }
    let version = said.split_once("version ").and_then(|(_, rest)| Flavor::parse(rest.split_whitespace().next()?, ""));
    let Some(version) = version.map(|tool| tool.version) else { return false };
    let server = flavor.version;
    if server < (8, 0, 0) || flavor.is_mariadb() { version.0 == 2 } else { (version.0, version.1) >= (server.0, server.1) }
}

impl MySqlBackups {
    /// The first of these programs that is where the server's are, and what it says of its version.
    async fn find<'a>(&self, op: &Op, programs: &[&'a str]) -> Result<Option<(&'a str, String)>> {
        for program in programs {
            match self.service.exec(op, CommandSpec::new(*program).arg("--version")).await {
                Ok(output) => return Ok(Some((program, format!("{} {}", output.stdout, output.stderr)))),
                Err(error @ Error::Cancelled { .. }) => return Err(error),
                Err(error) => tracing::debug!(program, %error, "not here"),
            }
        }
        Ok(None)
    }

    async fn hot_tool(&self, op: &Op, flavor: Flavor) -> Result<Option<(HotTool, String)>> {
        let tool = tool_of(flavor);
        let found = self.find(op, tool.programs()).await?.filter(|(_, said)| fits(tool, said, flavor));
        Ok(found.map(|(program, _)| (tool, program.to_owned())))
    }

    async fn login(&self, op: &Op) -> Result<Arc<ToolLogin>> {
        let service = Arc::clone(&self.service);
        if !service.brings_its_own_programs() {
            return Ok(Arc::new(ToolLogin::of_file(service, self.layout.credentials.clone())));
        }
        let text = files::read_optional(&self.layout.credentials)?.unwrap_or_default();
        let text = if foreign::is_foreign(op, &*service, &self.layout).await? {
            // The socket is somewhere else in there.
            text.lines().filter(|line| !line.starts_with("socket")).map(|line| format!("{line}\n")).collect()
        } else {
            text
        };
        Ok(Arc::new(ToolLogin::in_container(op, service, text.into()).await?))
    }

    async fn dump(&self, op: &Op, flavor: Flavor) -> Result<Box<dyn BackupRunner>> {
        let candidates = if flavor.is_mariadb() { &DUMPS[..] } else { &DUMPS[1..] };
        let (program, _) = self.find(op, candidates).await?.ok_or_else(|| {
            Error::guest(format!("none of {} is on this guest: install the server's client programs", candidates.join(", ")))
        })?;
        let mut session = self.client.session(op).await?;
        let logs: Vec<i64> = session.rows(op, "look whether there is a binary log", &SqlText::new("SELECT @@log_bin")).await?;
        session.close().await;
        let modern = !flavor.is_mariadb() && flavor.version >= (8, 0, 26);
        let option = if modern { "--source-data=2" } else { "--master-data=2" };
        let position_option = logs.contains(&1).then_some(option);
        Ok(Box::new(MySqlDump { program, login: self.login(op).await?, position_option }))
    }

    async fn hot(&self, op: &Op, tool: HotTool, program: String, incremental: bool) -> Result<Box<dyn BackupRunner>> {
        let mut session = self.client.session(op).await?;
        let found: Vec<String> = session.rows(op, "ask where the data are", &SqlText::new("SELECT @@datadir")).await?;
        session.close().await;
        let data_dir = found.into_iter().next().map_or_else(|| self.layout.data_dir.clone(), Utf8PathBuf::from);
        Ok(Box::new(HotBackup { tool, program, login: self.login(op).await?, data_dir, incremental }))
    }

    fn private_server(&self, directory: Utf8PathBuf, beside: bool) -> PrivateServerSpec {
        PrivateServerSpec {
            service: Arc::clone(&self.service),
            program: Arc::clone(&self.program),
            owner: self.owner.clone(),
            main_file: self.layout.main_file.clone(),
            directory,
            beside,
            wait: self.settings.state_change_wait_time,
        }
    }

    async fn hot_restore(&self, op: &Op, flavor: Flavor, directory: Utf8PathBuf, beside: bool) -> Result<Box<dyn RestoreRunner>> {
        let (tool, program) = self.hot_tool(op, flavor).await?.ok_or_else(|| missing(tool_of(flavor), "the backup"))?;
        let aside = directory.parent().unwrap_or(&directory).join(ASIDE);
        let files = HotRestore { tool, program, service: Arc::clone(&self.service), directory: directory.clone(), aside };
        Ok(Box::new(HotFiles { files, flavor, owner: self.owner.clone(), server: self.private_server(directory, beside) }))
    }
}

fn missing(tool: HotTool, what: &str) -> Error {
    let (programs, package) = (tool.programs().join(" or "), tool.package());
    Error::guest(format!(
        "{what} needs {programs}, and this guest has none that fits its server: install the package {package} into the image"
    ))
}

#[async_trait]
impl Backups for MySqlBackups {
    async fn runner(&self, op: &Op, incremental: bool) -> Result<Box<dyn BackupRunner>> {
        let flavor = self.program.flavor(op).await?;
        let configured = self.settings.datastore.backup_strategy.as_deref();
        let strategy = match configured {
            Some(name) => Strategy::named(name).ok_or_else(|| {
                Error::guest(format!(
                    "backup_strategy is '{name}', which is no strategy of {flavor}: set it to MySQLDump, InnoBackupEx or MariaBackup"
                ))
            })?,
            None => Strategy::Hot,
        };
        if strategy == Strategy::Dump {
            return self.dump(op, flavor).await;
        }
        match (self.hot_tool(op, flavor).await?, configured) {
            (Some((tool, program)), _) => self.hot(op, tool, program, incremental).await,
            (None, Some(name)) => Err(missing(tool_of(flavor), &format!("backup_strategy = {name}"))),
            (None, None) if incremental => Err(missing(tool_of(flavor), "an incremental backup")),
            (None, None) => {
                tracing::info!(
                    package = tool_of(flavor).package(),
                    "no tool for copies of the server's files is here: the backup is a dump"
                );
                self.dump(op, flavor).await
            }
        }
    }

    async fn restorer(&self, op: &Op, kind: Option<&str>, object: &str, target: &RestoreTarget) -> Result<Box<dyn RestoreRunner>> {
        if foreign::is_foreign(op, &*self.service, &self.layout).await? {
            return Err(Error::guest("the container of the database has files of its own: a backup cannot be restored into it from here"));
        }
        let strategy = Strategy::of_backup(kind, object)
            .ok_or_else(|| Error::bad_request(format!("a backup of type '{}' is not one of this datastore", kind.unwrap_or_default())))?;
        let (directory, instance) = match target {
            RestoreTarget::Instance => {
                let (layout, service) = (self.layout.clone(), Arc::clone(&self.service));
                let marker = HalfRestored::new(&layout.state_dir, layout.data_dir.clone());
                let wait = self.settings.state_change_wait_time;
                (layout.data_dir.clone(), Some(Instance { marker, service, wait, contents: Box::new(Contents { layout }) }))
            }
            RestoreTarget::Scratch(directory) => (directory.clone(), None),
        };
        let flavor = self.program.flavor(op).await?;
        let inner: Box<dyn RestoreRunner> = match strategy {
            Strategy::Hot => self.hot_restore(op, flavor, directory.clone(), instance.is_none()).await?,
            Strategy::Dump => {
                let found = self.find(op, &CLIENTS).await?;
                let (client, _) = found.ok_or_else(|| Error::guest("the server's client program is not on this guest: install it"))?;
                let spec = self.private_server(directory.clone(), instance.is_none());
                Box::new(LoadRestore { spec, owner: self.owner.clone(), client, flavor, server: None })
            }
        };
        Ok(Box::new(Restoring { inner, directory, owner: self.owner.clone(), instance }))
    }

    async fn examine(&self, op: &Op, directory: &Utf8Path) -> Result<Examination> {
        let (program, _) = self.find(op, &examine::CHECKS).await?.ok_or_else(|| {
            Error::guest(format!("none of {} is on this guest: install the server's client programs", examine::CHECKS.join(", ")))
        })?;
        let flavor = self.program.flavor(op).await?;
        examine::examine(op, &self.private_server(directory.to_owned(), true), program, flavor).await
    }

    async fn clear_scratch(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        private_server::end_left_over(op, directory).await?;
        files::remove_tree(directory)
    }

    fn usage(&self) -> Box<dyn Usage> {
        Box::new(MySqlUsage::new(Arc::clone(&self.client)))
    }
}

/// What there is of a database in the instance's data directory.
#[derive(Debug)]
struct Contents {
    layout: Layout,
}

#[async_trait]
impl Clear for Contents {
    async fn clear(&self, op: &Op) -> Result<()> {
        private_server::end_left_over(op, &self.layout.data_dir).await?;
        // The account in there is not this agent's any more.
        files::remove(&self.layout.credentials)?;
        bootstrap::place(&self.layout).clear()
    }
}

/// A hot restore that knows which server will read the files.
#[derive(Debug)]
struct HotFiles {
    files: HotRestore,
    flavor: Flavor,
    owner: Owner,
    server: PrivateServerSpec,
}

#[async_trait]
impl RestoreRunner for HotFiles {
    async fn begin(&mut self, op: &Op) -> Result<()> {
        self.files.begin(op).await
    }

    async fn apply(&mut self, op: &Op, step: RestoreStep) -> Result<()> {
        self.files.apply(op, step).await
    }

    async fn finish(&mut self, op: &Op) -> Result<()> {
        self.files.finish(op).await?;
        let Some(made_by) = upgrade::copied_from(&self.files.directory)? else { return Ok(()) };
        upgrade::check_files(made_by, self.flavor)?;
        if !upgrade::is_needed(made_by, self.flavor) {
            return Ok(());
        }
        self.owner.take(op, &self.files.directory).await?;
        let server = self.server.start(op, Access::Everybody).await.action("start the restored database to upgrade it")?;
        upgrade::run(op, &self.server).await?;
        server.stop(op).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_follows_the_server_and_its_version() {
        let of = |version| Flavor::parse(version, "").unwrap();
        assert_eq!(tool_of(of("10.11.14-MariaDB")), HotTool::MariaBackup);
        assert_eq!((tool_of(of("8.0.36")), tool_of(of("10.0.38-MariaDB"))), (HotTool::XtraBackup, HotTool::XtraBackup));
        let said = |version: &str| format!(" xtrabackup version {version} based on MySQL server {version} Linux (x86_64)");
        for (tool, server, good) in [
            ("2.4.29", "5.7.44", true),
            ("2.4.29", "8.0.36", false),
            ("8.0.35-30", "8.0.36", true),
            ("8.0.35-30", "8.4.0", false),
            ("8.0.35-30", "5.7.44", false),
        ] {
            assert_eq!(fits(HotTool::XtraBackup, &said(tool), of(server)), good, "{tool} {server}");
        }
        assert!(!fits(HotTool::XtraBackup, "nonsense", of("8.0.36")));
    }
}
