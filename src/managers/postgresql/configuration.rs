//! The server's configuration: one base file, and files of changes that it includes ([`Layers`]).
//!
//! Names and precedence of the files are those of Trove's `ImportOverrideStrategy` (trove/guestagent/common/configuration.py).

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::descriptor::POSTGRESQL;
use super::host_rules;
use super::layout::Layout;
use super::program::{Objection, ServerProgram};
use crate::codec::{Document, PostgreSqlConf};
use crate::config::{ServiceControlKind, TlsMode};
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::managers::configuration::{COMMON, ChangeName, Group, Layers, Store, Style};
use crate::op::Op;
use crate::system::files;
use crate::system::postgresql::Address;
use crate::volume;

/// Nobody but root and the server reads it.
const MODE: u32 = 0o640;
/// What the agent alone decides: another value of these would take the server, or its data, away from it.
const OWN: [&str; 10] = [
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "port",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
];

/// How much of the log replication slots may keep.
const KEPT_LOG: &str = "max_slot_wal_keep_size";
/// The first version that has it.
const BOUNDS_SLOTS: u16 = 13;
/// This part of the volume, and not less than this many bytes.
const KEPT_PART: u64 = 5;
const LEAST_KEPT: u64 = 64 << 20;

pub(super) type Conf = Layers<PostgreSqlConf>;

/// Parameters whose values are locales, which a guest may not have.
const LOCALES: [&str; 4] = ["lc_messages", "lc_monetary", "lc_numeric", "lc_time"];

/// The configuration of one server.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) layout: Layout,
    pub(super) program: Arc<ServerProgram>,
    pub(super) owner: Owner,
    pub(super) in_container: bool,
}

/// The file of what slots may keep. Its number is fixed: operators know it by its name.
fn kept_log() -> ChangeName {
    ChangeName { group: Group::SystemBeforeUser, number: 5, id: "kept-log".to_owned() }
}

/// A parameter that belongs to the agent.
///
/// # Errors
/// It does.
pub(super) fn refuse_own(name: &str) -> Result<()> {
    match OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        true => Err(Error::bad_request(format!("the parameter '{name}' belongs to the guest agent and cannot be set"))),
        false => Ok(()),
    }
}

/// Names of parameters that a document sets.
pub(super) fn names(document: Option<&PostgreSqlConf>) -> std::collections::BTreeSet<String> {
    let settings = document.into_iter().flat_map(PostgreSqlConf::settings);
    settings.filter_map(|(path, _)| path.into_iter().next()).map(|name| name.to_ascii_lowercase()).collect()
}

/// A base with the directory of the changes as the last thing in it: what comes later counts.
fn including(base: &PostgreSqlConf, directory: &Utf8Path) -> PostgreSqlConf {
    let is_include = |line: &str| line.trim_start().to_ascii_lowercase().starts_with("include_dir");
    let mut text: String = base.render().split_inclusive('\n').filter(|line| !is_include(line)).collect();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("include_dir = '{directory}'\n"));
    PostgreSqlConf::parse(&text)
}

impl Configuration {
    fn store(&self) -> Store {
        Store {
            main_file: self.layout.main_file(),
            directory: self.layout.override_dir(),
            extension: "conf",
            style: Style::Include,
            mode: MODE,
            owner: self.account(),
        }
    }

    fn account(&self) -> Option<&'static str> {
        (!self.in_container).then(|| self.owner.name())
    }

    /// All layers, as they are in the files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn read(&self) -> Result<Conf> {
        self.store().read()
    }

    /// Has the server read `layers`; nothing is written.
    ///
    /// # Errors
    /// It refuses something; its words are in the error.
    pub(super) async fn check(&self, op: &Op, layers: &Conf) -> Result<()> {
        match self.objection(op, layers).await? {
            None => Ok(()),
            Some(Objection::Refused(reason)) => Err(Error::bad_request(format!("the server refuses the configuration: {reason}"))),
            Some(Objection::Unknown(names)) => {
                Err(Error::bad_request(format!("the server refuses the configuration: it has no parameter {}", names.join(", "))))
            }
        }
    }

    async fn objection(&self, op: &Op, layers: &Conf) -> Result<Option<Objection>> {
        let parent = self.layout.config_dir();
        files::ensure_directory_exists(&parent, 0o755, self.account())?;
        // Beside the real file: there the server may read, also from inside a container.
        let scratch =
            tempfile::Builder::new().prefix(files::SCRATCH).tempdir_in(&parent).action(format!("create a directory in {parent}"))?;
        let directory = Utf8PathBuf::from_path_buf(scratch.path().to_owned())
            .map_err(|path| Error::guest(format!("{} is not a path of plain text", path.display())))?;
        files::ensure_directory(&directory, 0o755, None)?;
        let (file, overrides) = (directory.join("postgresql.conf"), directory.join("conf.d"));
        let mut copy = layers.clone();
        copy.base = including(&copy.base, &overrides);
        self.store().write_copy(&copy, file.clone(), overrides)?;
        if self.in_container {
            self.owner.take(op, &directory).await?;
        }
        self.program.objection(op, &file).await
    }

    /// Writes what `to` has different from `from`, which is in the files.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) async fn write(&self, op: &Op, from: &Conf, to: &Conf) -> Result<()> {
        self.store().write(from, to)?;
        if self.in_container { self.owner.take(op, &self.layout.config_dir()).await } else { Ok(()) }
    }

    /// A new base. `fresh`: of a new instance, without layers of whatever this guest has been before. What the server does not know in the base, and locales
    /// that the guest does not have, are left out: Trove renders one template for all versions of a server, and for all images.
    ///
    /// # Errors
    /// The server refuses a value, or a file cannot be written. Nothing has changed then.
    pub(super) async fn write_base(&self, op: &Op, contents: &str, fresh: bool, group: Option<PostgreSqlConf>) -> Result<()> {
        let before = self.read()?;
        let mut after = if fresh { Layers::new(before.base.clone()) } else { before.clone() };
        if !contents.trim().is_empty() {
            after.base = PostgreSqlConf::parse(contents);
        }
        self.bound_kept_log(op, &mut after).await?;
        after.base = including(&after.base, &self.layout.override_dir());
        after.set_change(Group::System, COMMON, self.system_layer(&after.base)?);
        self.leave_unknown_out(op, &mut after).await?;
        if let Some(group) = group {
            after.set_change(Group::User, COMMON, group);
        }
        self.check(op, &after).await?;
        self.write(op, &before, &after).await
    }

    async fn leave_unknown_out(&self, op: &Op, layers: &mut Conf) -> Result<()> {
        // It names some of them at a time.
        while let Some(objection) = self.objection(op, layers).await? {
            let names = match objection {
                Objection::Unknown(names) => names,
                Objection::Refused(reason) => {
                    let is_named = |name: &&str| reason.contains(&format!("invalid value for parameter \"{name}\""));
                    LOCALES.into_iter().filter(is_named).map(str::to_owned).collect()
                }
            };
            let left_out: Vec<String> = names.into_iter().filter(|name| layers.base.remove(&[name])).collect();
            if left_out.is_empty() {
                return Ok(());
            }
            tracing::warn!(
                parameters = left_out.join(", "),
                "the server does not know parameters of the base configuration, or their locales: they are left out"
            );
        }
        Ok(())
    }

    /// Slots keep the log for incremental backups and replicas; unless somebody has said how much, they keep no more than a part of the volume. A group wins over that.
    async fn bound_kept_log(&self, op: &Op, layers: &mut Conf) -> Result<()> {
        let name = kept_log();
        layers.remove_change(name.group, &name.id);
        if layers.base.get(&[KEPT_LOG]).is_some() || self.program.version(op).await?.0 < BOUNDS_SLOTS {
            return Ok(());
        }
        let volume = self.layout.mount_point.ancestors().find(|path| path.exists()).unwrap_or(Utf8Path::new("/"));
        let stats = volume::filesystem_stats(volume)?;
        let size = (stats.size() / KEPT_PART).max(LEAST_KEPT) >> 20;
        let mut document = PostgreSqlConf::parse("");
        document.set(&[KEPT_LOG], &json!(format!("{size}MB")))?;
        layers.place_change(&name, document);
        Ok(())
    }

    /// The same for a volume that has another size than when the configuration was written. True when that changes something.
    ///
    /// # Errors
    /// A file cannot be read or written, or the volume cannot be looked at.
    pub(super) async fn fit_to_volume(&self, op: &Op) -> Result<bool> {
        if !self.layout.main_file().is_file() {
            return Ok(false);
        }
        let before = self.read()?;
        let mut after = before.clone();
        self.bound_kept_log(op, &mut after).await?;
        if before == after {
            return Ok(false);
        }
        self.write(op, &before, &after).await.map(|()| true)
    }

    fn system_layer(&self, base: &PostgreSqlConf) -> Result<PostgreSqlConf> {
        let layout = &self.layout;
        let mut own: Vec<(&str, Value)> = vec![
            ("data_directory", json!(layout.data_dir)),
            ("hba_file", json!(layout.hba_file())),
            ("ident_file", json!(layout.ident_file())),
            ("external_pid_file", json!(layout.pid_file())),
            ("unix_socket_directories", json!(layout.run_dir())),
            // Whoever gets at the socket is asked for a password all the same.
            ("unix_socket_permissions", json!("0777")),
            ("password_encryption", json!("scram-sha-256")),
        ];
        if base.get(&["listen_addresses"]).is_none() {
            own.push(("listen_addresses", json!("*")));
        }
        let mut document = PostgreSqlConf::parse("");
        own.iter().try_for_each(|(name, value)| document.set(&[name], value))?;
        Ok(document)
    }

    /// Writes the files beside the configuration: who may log in, and, for Debian's programs, that nobody but the unit starts the server.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) async fn write_rules(&self, op: &Op, mode: Option<TlsMode>) -> Result<()> {
        let directory = self.layout.config_dir();
        let ssl = self.read()?.merged()?.get(&["ssl"]);
        let has_tls =
            ssl.as_ref().and_then(Value::as_str).is_some_and(|ssl| ["on", "true", "yes", "1"].contains(&ssl.to_ascii_lowercase().as_str()));
        files::replace(&self.layout.hba_file(), host_rules::rules(mode, has_tls).as_bytes(), MODE, self.account())?;
        files::replace(&self.layout.ident_file(), host_rules::IDENTITIES.as_bytes(), MODE, self.account())?;
        if self.layout.control == ServiceControlKind::Systemd {
            // postgresql.service starts every cluster whose start.conf says `auto`, whether its own unit is enabled or not.
            files::replace(&directory.join("start.conf"), b"manual\n", 0o644, self.account())?;
        }
        if self.in_container { self.owner.take(op, &directory).await } else { Ok(()) }
    }
}

impl Address for Configuration {
    fn address(&self) -> Result<(Utf8PathBuf, u16)> {
        let port = self.read()?.merged()?.get(&["port"]);
        let port = port.as_ref().and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(POSTGRESQL.port);
        Ok((self.layout.run_dir().to_owned(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changes_come_last() {
        let base = PostgreSqlConf::parse("a = 1\ninclude_dir 'conf.d'\n# include_dir = 'x'\nb = 2");
        assert_eq!(including(&base, "/c/conf.d".into()).render(), "a = 1\n# include_dir = 'x'\nb = 2\ninclude_dir = '/c/conf.d'\n");
        let empty = including(&PostgreSqlConf::parse(""), "/c".into());
        assert_eq!(empty.render(), "include_dir = '/c'\n");
        assert_eq!(including(&empty, "/c".into()), empty);
    }

    #[test]
    fn what_is_the_agents_is_refused() {
        assert!(refuse_own("Data_Directory").is_err() && refuse_own("work_mem").is_ok());
    }
}
