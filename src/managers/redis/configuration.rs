//! The server's configuration: one file, which the agent makes of layers (`managers::configuration`).
//!
//! What each layer is called is Trove's (trove/guestagent/datastore/experimental/redis/service.py, .../replication/experimental/redis_sync.py).

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::directives::Directives;
use super::layout::Layout;
use super::program::{Parameters, ServerProgram};
use crate::codec::{Document, RedisConf};
use crate::config::ServiceControlKind;
use crate::error::{Error, Result};
use crate::managers::Owner;
use crate::managers::configuration::{COMMON, ChangeName, Group, Layers, Store, Style};
use crate::managers::upgrade;
use crate::op::Op;
use crate::system::files;
use crate::system::password::random_password;
use crate::system::redis::{Access, KeyHolder};

/// The layer of a member of a cluster.
pub(super) const CLUSTERING: &str = "clustering";
/// The layer of the password.
pub(super) const PASSWORD: &str = "auth_password";
/// The layer of how replicas, and backups, get their data: Trove's template has the server write them to its disk first, which is where a full disk stops all
/// writes (`stop-writes-on-bgsave-error`). A user may have it so.
const SYNCHRONIZATION: &str = "synchronization";
/// The layer of TLS for clients. Its number is fixed, and the last: a replica's own certificates come before those it was given to follow with.
pub(super) const CLIENT_TLS: &str = "client-tls";
const LAST: u32 = 900;
/// Layers that belong to the instance, whatever its controller renders.
const KEPT: [&str; 2] = [PASSWORD, CLUSTERING];
/// The password before, while it is being changed: the running server may still want it.
pub(super) const PASSWORD_BEFORE: &str = "redis_passwords_before.json";
/// Length of the name that `CONFIG` goes by.
const COMMAND_LENGTH: usize = 36;
/// Passwords are in it.
const MODE: u32 = 0o640;

pub(super) type Conf = Layers<RedisConf>;

/// The configuration of one server.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) layout: Layout,
    pub(super) program: Arc<ServerProgram>,
    pub(super) owner: Owner,
    pub(super) in_container: bool,
    /// How long a server may take to read it.
    pub(super) wait: Duration,
}

/// A change that nobody has written yet.
pub(super) struct Change {
    pub(super) before: Conf,
    pub(super) after: Conf,
    /// What the server makes of it.
    pub(super) parameters: Parameters,
}

/// A layer of these directives.
pub(super) fn layer<'a>(directives: impl IntoIterator<Item = (&'a str, Value)>) -> Result<RedisConf> {
    let mut document = RedisConf::parse("");
    for (name, value) in directives {
        document.set_directive(name, &value)?;
    }
    Ok(document)
}

fn put(layers: &mut Conf, group: Group, id: &str, document: RedisConf) {
    match id {
        CLIENT_TLS => layers.place_change(&ChangeName { group, number: LAST, id: id.to_owned() }, document),
        _ => layers.set_change(group, id, document),
    }
}

impl Configuration {
    fn store(&self) -> Store {
        Store {
            main_file: self.layout.main_file(),
            directory: self.layout.override_dir(),
            extension: "rev",
            style: Style::Merge,
            mode: MODE,
            owner: (!self.in_container).then(|| self.owner.name()),
        }
    }

    /// The layers as they are in the files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn read(&self) -> Result<Conf> {
        self.store().read()
    }

    /// What the server reads when it starts.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn effective(&self) -> Result<RedisConf> {
        self.read()?.merged()
    }

    /// The data directory's file of the data.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn data_file(&self) -> Result<Utf8PathBuf> {
        let conf = self.effective()?;
        Ok(self.layout.data_dir().join(conf.last("dbfilename").unwrap_or_else(|| "dump.rdb".to_owned())))
    }

    /// Everything the server keeps in the data directory by this configuration.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn data_paths(&self) -> Result<Vec<Utf8PathBuf>> {
        let conf = self.effective()?;
        let name = |directive: &str, default: &str| conf.last(directive).unwrap_or_else(|| default.to_owned());
        let dir = self.layout.data_dir();
        Ok(vec![
            self.data_file()?,
            dir.join(name("appenddirname", "appendonlydir")),
            dir.join(name("appendfilename", "appendonly.aof")),
            dir.join(name("cluster-config-file", "nodes.conf")),
        ])
    }

    /// What the agent needs of the server. `CONFIG` keeps the name it has: the running server knows it by that.
    fn system_layer(&self, base: &RedisConf, command: &SecretString) -> Result<RedisConf> {
        let (layout, run_dir) = (&self.layout, self.layout.run_dir());
        let supervised = if layout.control == ServiceControlKind::Systemd { "systemd" } else { "no" };
        let log = if layout.control == ServiceControlKind::Systemd { layout.error_log().into_string() } else { String::new() };
        // A layer replaces every line of a directive: those of the base go along.
        let others = base
            .directive("rename-command")
            .into_iter()
            .filter(|pair| pair.first().is_some_and(|name| !name.eq_ignore_ascii_case("config")));
        let mut renamed: Vec<Value> = others.map(|pair| json!(pair)).collect();
        renamed.push(json!(["CONFIG", command.expose_secret()]));
        layer([
            ("daemonize", json!(false)),
            ("supervised", json!(supervised)),
            ("protected-mode", json!(false)),
            ("pidfile", json!(run_dir.join(format!("{}-server.pid", layout.family())).as_str())),
            ("logfile", json!(log)),
            ("dir", json!(layout.data_dir().as_str())),
            ("unixsocket", json!(layout.socket().as_str())),
            ("unixsocketperm", json!("700")),
            ("rename-command", Value::Array(renamed)),
        ])
    }

    fn command_name(conf: &RedisConf) -> Option<SecretString> {
        let is_config = |pair: &Vec<String>| pair.first().is_some_and(|name| name.eq_ignore_ascii_case("config"));
        let pair = conf.directive("rename-command").into_iter().rfind(is_config)?;
        pair.get(1).filter(|name| !name.is_empty()).map(|name| name.as_str().into())
    }

    /// Has the server read `after`; nothing is written.
    ///
    /// # Errors
    /// The server refuses it.
    pub(super) async fn try_out(&self, op: &Op, before: Conf, after: Conf) -> Result<Change> {
        let directory = self.layout.config_dir();
        files::ensure_directory_exists(&directory, 0o755, (!self.in_container).then(|| self.owner.name()))?;
        let parameters = self.program.read(op, &after.merged()?, &directory, self.wait).await?;
        Ok(Change { before, after, parameters })
    }

    /// Writes a change.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) async fn write(&self, op: &Op, change: &Change) -> Result<()> {
        self.store().write(&change.before, &change.after)?;
        self.keep_on_volume()?;
        for id in KEPT.into_iter().filter(|id| change.after.change(Group::System, id).is_none()) {
            files::remove(&self.kept_file(id))?;
        }
        if self.in_container { self.owner.take(op, &self.layout.config_dir()).await } else { Ok(()) }
    }

    /// A new base. `fresh`: of a new instance, without layers of whatever this guest has been before.
    ///
    /// # Errors
    /// The server refuses it; nothing has changed then.
    pub(super) async fn write_base(&self, op: &Op, contents: &str, fresh: bool, others: Vec<(Group, &str, RedisConf)>) -> Result<()> {
        let before = self.read()?;
        let mut after = if fresh { Layers::new(before.base.clone()) } else { before.clone() };
        if !contents.trim().is_empty() {
            after.base = RedisConf::parse(contents);
        }
        let known = before.merged().ok().as_ref().and_then(Configuration::command_name);
        let command = match known {
            Some(name) => name,
            None => random_password(COMMAND_LENGTH)?,
        };
        after.set_change(Group::System, COMMON, self.system_layer(&after.base, &command)?);
        after.set_change(Group::SystemBeforeUser, SYNCHRONIZATION, layer([("repl-diskless-sync", json!(true))])?);
        others.into_iter().for_each(|(group, id, document)| put(&mut after, group, id, document));
        let change = self.try_out(op, before, after).await?;
        self.write(op, &change).await
    }

    /// Writes a layer of the agent's own, or removes it.
    ///
    /// # Errors
    /// The server refuses it; nothing has changed then.
    pub(super) async fn change_system(&self, op: &Op, id: &str, document: Option<RedisConf>) -> Result<Change> {
        let before = self.read()?;
        let mut after = before.clone();
        match document {
            Some(document) => put(&mut after, Group::System, id, document),
            None => drop(after.remove_change(Group::System, id)),
        }
        let change = self.try_out(op, before, after).await?;
        self.write(op, &change).await?;
        Ok(change)
    }

    /// True when there is a layer of the agent's own with this name.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn has_system(&self, id: &str) -> Result<bool> {
        Ok(self.read()?.change(Group::System, id).is_some())
    }

    /// Where a layer is on the volume.
    fn kept_file(&self, id: &str) -> Utf8PathBuf {
        self.layout.data_dir().join(format!(".trove-{id}.rev"))
    }

    /// Keeps on the volume of a prepared instance what a new root disk must not lose, as no controller sends it along: without its password a database is open
    /// to everybody. What the volume has and this root disk has not stays: the next one may just be taking it.
    ///
    /// # Errors
    /// The volume cannot be written to.
    pub(super) fn keep_on_volume(&self) -> Result<()> {
        if upgrade::read_note(&self.layout.data_dir())?.is_none() {
            return Ok(());
        }
        let layers = self.read()?;
        for id in KEPT {
            let Some(text) = layers.change(Group::System, id).map(Document::render) else { continue };
            let kept = self.kept_file(id);
            if files::read_optional(&kept)?.as_deref() != Some(&text) {
                files::write_atomic(&kept, text.as_bytes(), 0o600, None)?;
            }
        }
        Ok(())
    }

    /// The layers that the volume has kept.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn kept_on_volume(&self) -> Result<Vec<(Group, &'static str, RedisConf)>> {
        let mut layers = Vec::new();
        for id in KEPT {
            if let Some(text) = files::read_optional(&self.kept_file(id))? {
                layers.push((Group::System, id, RedisConf::parse(&text)));
            }
        }
        Ok(layers)
    }

    fn before_file(&self) -> Utf8PathBuf {
        self.layout.state_dir.join(PASSWORD_BEFORE)
    }

    /// Passwords that the running server may want although the files have another one.
    fn earlier_passwords(&self) -> Result<Vec<String>> {
        let Some(text) = files::read_optional(&self.before_file())? else { return Ok(Vec::new()) };
        // The parser's words may quote what it read.
        serde_json::from_str(&text).map_err(|_| Error::guest(format!("{} is damaged", self.before_file())))
    }

    /// Keeps the password that counts now, until [`Self::forget_password`]: from when the files have another one, the server may still want it.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(super) fn keep_password(&self) -> Result<()> {
        let conf = self.effective()?;
        let Some(password) = conf.last("requirepass").filter(|password| !password.is_empty()) else { return Ok(()) };
        let mut kept = self.earlier_passwords()?;
        kept.retain(|other| *other != password);
        kept.insert(0, password);
        files::ensure_directory(&self.layout.state_dir, 0o700, None)?;
        files::write_atomic(&self.before_file(), json!(kept).to_string().as_bytes(), 0o600, None)
    }

    /// The server has the new one.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn forget_password(&self) -> Result<()> {
        files::remove(&self.before_file())
    }
}

impl KeyHolder for Configuration {
    fn access(&self) -> Result<Access> {
        let conf = self.effective()?;
        let now = conf.last("requirepass").filter(|password| !password.is_empty()).map(SecretString::from);
        let before = self.earlier_passwords()?.into_iter().map(SecretString::from);
        let socket = self.layout.socket();
        Ok(Access { socket, passwords: now.into_iter().chain(before).collect(), config_command: Configuration::command_name(&conf) })
    }
}

/// A directive that belongs to the agent.
///
/// # Errors
/// It does.
pub(super) fn refuse_own(name: &str) -> Result<()> {
    const OWN: &[&str] = &[
        "aclfile",
        "cluster-config-file",
        "cluster-enabled",
        "daemonize",
        "dir",
        "include",
        "loadmodule",
        "logfile",
        "pidfile",
        "protected-mode",
        "rename-command",
        "replicaof",
        "slaveof",
        "supervised",
        "unixsocket",
        "unixsocketperm",
    ];
    match OWN.contains(&name.to_ascii_lowercase().as_str()) {
        true => Err(Error::bad_request(format!("the directive '{name}' belongs to the guest agent and cannot be set"))),
        false => Ok(()),
    }
}
