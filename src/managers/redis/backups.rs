//! Backup and restore ([`Backups`]).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use tokio::time::Instant;

use super::configuration::Configuration;
use super::directives::Directives;
use crate::codec::RedisConf;
use crate::config::Settings;
use crate::error::{Error, Result, ResultExt};
use crate::managers::drill::{Examination, Items};
use crate::managers::restoring::{Clear, HalfRestored, Instance, Restoring};
use crate::managers::{Backups, Owner, RestoreTarget};
use crate::op::Op;
use crate::strategies::backup::redis::{KIND, RdbFile, RdbHeader, RedisBackup, RedisUsage};
use crate::strategies::backup::{BackupRunner, RestoreRunner, RestoreStep, Usage};
use crate::system::redis::{Client, Session};
use crate::system::service::ServiceControl;
use crate::system::{facts, files};

/// Between two looks at a server that writes its log anew.
const LOOK: Duration = Duration::from_millis(100);
/// What the server says when the data it loads are damaged (src/rdb.c: `rdbReportError`, `rdbLoadRio`), or when it crashes over them, by whichever name
/// (src/debug.c).
const DAMAGED: [&str; 4] = ["Internal error in RDB reading", "Short read or OOM loading DB", "Wrong RDB checksum", " BUG REPORT END"];

/// Backups of one server.
#[derive(Debug)]
pub(super) struct RedisBackups {
    pub(super) settings: Arc<Settings>,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) client: Client,
    pub(super) owner: Owner,
}

/// True for the types this datastore's backups ever had: the class of the Python runner, a later release's word, or nothing.
fn is_ours(kind: Option<&str>) -> bool {
    kind.is_none_or(|kind| [KIND, "full", ""].iter().any(|ours| kind.eq_ignore_ascii_case(ours)))
}

fn file_name(conf: &RedisConf) -> String {
    conf.last("dbfilename").unwrap_or_else(|| "dump.rdb".to_owned())
}

impl RedisBackups {
    /// A copy of the data takes as much memory as they take where they are.
    fn check_memory(&self, file: &Utf8Path) -> Result<()> {
        let mut head = vec![0; RdbHeader::LENGTH];
        let mut read = || -> std::io::Result<usize> { std::io::Read::read(&mut std::fs::File::open(file)?, &mut head) };
        let length = read().action(format!("read {file}"))?;
        let needed = RdbHeader::parse(&head[..length]).and_then(|header| header.memory).unwrap_or_default();
        let available = facts::available_memory()?;
        if needed < available {
            return Ok(());
        }
        Err(Error::guest(format!(
            "the restored data would take {} MiB of memory beside the instance's own, and {} MiB are available: hold the drill on another machine",
            needed >> 20,
            available >> 20
        )))
    }
}

#[async_trait]
impl Backups for RedisBackups {
    async fn runner(&self, _op: &Op, incremental: bool) -> Result<Box<dyn BackupRunner>> {
        match self.settings.datastore.backup_strategy.as_deref() {
            Some(other) if !is_ours(Some(other)) => {
                Err(Error::guest(format!("backup_strategy is '{other}', which is no strategy of this datastore: set it to {KIND}")))
            }
            _ if incremental => Err(Error::bad_request("there are no incremental backups of this datastore: ask for a full one")),
            _ => Ok(Box::new(RedisBackup { client: self.client.clone() })),
        }
    }

    async fn restorer(&self, _op: &Op, kind: Option<&str>, _object: &str, target: &RestoreTarget) -> Result<Box<dyn RestoreRunner>> {
        if !is_ours(kind) {
            return Err(Error::bad_request(format!("a backup of type '{}' is not one of this datastore", kind.unwrap_or_default())));
        }
        let conf = self.configuration.effective()?;
        let (directory, instance) = match target {
            RestoreTarget::Scratch(directory) => (directory.clone(), None),
            RestoreTarget::Instance => {
                let directory = self.configuration.layout.data_dir();
                let marker = HalfRestored::new(&self.configuration.layout.state_dir, directory.clone());
                let contents = Box::new(Contents { configuration: Arc::clone(&self.configuration) });
                let (service, wait) = (Arc::clone(&self.service), self.settings.state_change_wait_time);
                (directory, Some(Instance { marker, service, wait, contents }))
            }
        };
        let file = RdbFile { path: directory.join(file_name(&conf)) };
        let loading = instance.is_some().then(|| Loading {
            configuration: Arc::clone(&self.configuration),
            directory: directory.clone(),
            wait: self.settings.backup.restore_timeout,
        });
        let inner = Box::new(RedisRestore { file, loading, owner: self.owner.clone() });
        Ok(Box::new(Restoring { inner, directory, owner: self.owner.clone(), instance }))
    }

    async fn examine(&self, op: &Op, directory: &Utf8Path) -> Result<Examination> {
        let conf = self.configuration.effective()?;
        self.check_memory(&directory.join(file_name(&conf)))?;
        let program = &self.configuration.program;
        let server = load(op, &self.configuration, &conf, directory, self.settings.backup.restore_timeout).await?;
        let mut session = server.session(op).await?;
        let keyspace = session.info(op, "keyspace").await?;
        drop(session);
        server.stop(op).await?;
        let databases = keyspace.iter().filter(|(name, _)| name.starts_with("db"));
        let keys: Vec<u64> = databases.filter_map(|(_, facts)| facts.strip_prefix("keys=")?.split(',').next()?.parse().ok()).collect();
        let items = Items { name: "keys", count: keys.iter().sum() };
        Ok(Examination { server: program.product(op).await?.to_string(), databases: keys.len() as u64, items, problems: Vec::new() })
    }

    async fn clear_scratch(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        self.configuration.program.end_left_over(op, directory).await?;
        files::remove_tree(directory)
    }

    fn usage(&self) -> Box<dyn Usage> {
        Box::new(RedisUsage::new(self.client.clone()))
    }
}

/// A server of the agent's own on restored data: it loads all of them, and checks them while it does.
async fn load(
    op: &Op,
    configuration: &Configuration,
    conf: &RedisConf,
    directory: &Utf8Path,
    wait: Duration,
) -> Result<super::program::PrivateServer> {
    let started = configuration.program.start_private(op, conf, directory, wait).await;
    started.map_err(|error| match error.to_string() {
        reason if DAMAGED.iter().any(|words| reason.contains(words)) => {
            Error::Storage { action: "load the restored data".into(), reason, transient: false }
        }
        _ => error,
    })
}

/// What there is of a database in the data directory. It may be the volume itself: nothing else goes.
#[derive(Debug)]
struct Contents {
    configuration: Arc<Configuration>,
}

#[async_trait]
impl Clear for Contents {
    async fn clear(&self, op: &Op) -> Result<()> {
        self.configuration.program.end_left_over(op, &self.configuration.layout.data_dir()).await?;
        remove_data(&self.configuration)
    }
}

/// Leaves nothing of a database.
///
/// # Errors
/// The file system refused.
pub(super) fn remove_data(configuration: &Configuration) -> Result<()> {
    for path in configuration.data_paths()? {
        if path.is_dir() { files::remove_tree(&path)? } else { files::remove(&path)? }
    }
    RdbFile { path: configuration.data_file()? }.remove()
}

/// Restores into one directory.
#[derive(Debug)]
struct RedisRestore {
    file: RdbFile,
    /// None in a scratch directory: whoever looks at that loads the data.
    loading: Option<Loading>,
    owner: Owner,
}

/// Makes restored data into those of an instance.
#[derive(Debug)]
struct Loading {
    configuration: Arc<Configuration>,
    directory: Utf8PathBuf,
    wait: Duration,
}

impl Loading {
    /// Loads the data for a try. With an append-only file the server reads nothing but that when it starts, so it makes one of them.
    async fn run(&self, op: &Op) -> Result<()> {
        let conf = self.configuration.effective()?;
        let server = load(op, &self.configuration, &conf, &self.directory, self.wait).await?;
        if conf.last("appendonly").as_deref() == Some("yes") {
            let mut session = server.session(op).await?;
            session.set_parameter(op, "appendonly", "yes".into()).await.action("make the append-only file")?;
            self.wait_for_log(op, &mut session).await?;
        }
        server.stop(op).await
    }

    async fn wait_for_log(&self, op: &Op, session: &mut Session) -> Result<()> {
        let deadline = Instant::now() + self.wait;
        let mut look = tokio::time::interval(LOOK);
        loop {
            op.until_cancelled("make the append-only file", look.tick()).await?;
            let facts = session.info(op, "persistence").await?;
            let is = |name: &str, wanted: &str| facts.get(name).is_some_and(|value| value == wanted);
            if is("aof_rewrite_in_progress", "0") && is("aof_rewrite_scheduled", "0") {
                return match is("aof_last_bgrewrite_status", "ok") {
                    true => Ok(()),
                    false => {
                        Err(Error::guest("the server could not make its append-only file of the restored data: is there room for it?"))
                    }
                };
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout { action: "make the append-only file".into(), after: self.wait, detail: String::new() });
            }
        }
    }
}

#[async_trait]
impl RestoreRunner for RedisRestore {
    async fn begin(&mut self, _op: &Op) -> Result<()> {
        self.file.remove()
    }

    async fn apply(&mut self, op: &Op, step: RestoreStep) -> Result<()> {
        let header = self.file.write(op, step).await?;
        tracing::info!(made_by = header.server, "the backup's file is whole");
        self.owner.take(op, &self.file.path).await
    }

    async fn finish(&mut self, op: &Op) -> Result<()> {
        match &self.loading {
            Some(loading) => loading.run(op).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_every_release_are_known() {
        assert!([None, Some("RedisBackup"), Some("redisbackup"), Some("full"), Some("")].into_iter().all(is_ours));
        assert!(!is_ours(Some("InnoBackupEx")) && !is_ours(Some("incremental")));
    }
}
