//! The server's configuration: one YAML file, which the agent makes of layers (`managers::configuration`).

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::cluster::{self, CLUSTERING, Membership, Role};
use super::descriptor::MONGODB;
use super::flat;
use super::layout::Layout;
use super::program::{Objection, ServerProgram};
use crate::codec::{Document, Yaml};
use crate::config::ServiceControlKind;
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::managers::configuration::{COMMON, Group, Layers, Store, Style};
use crate::op::Op;
use crate::system::files;
use crate::system::mongodb::{Access, Address, KeyHolder, Login, credentials};

/// Nobody but root and the server reads it.
const MODE: u32 = 0o640;
/// What the agent alone decides, with all below it: another value would take the server, its data or its log away from the agent.
const OWN: [&str; 20] = [
    "net.bindIp",
    "net.bindIpAll",
    "net.port",
    "net.unixDomainSocket",
    "processManagement",
    "replication.replSet",
    "replication.replSetName",
    "security.authorization",
    "security.clusterAuthMode",
    "security.keyFile",
    "security.transitionToAuth",
    "setParameter.enableLocalhostAuthBypass",
    "sharding.clusterRole",
    "sharding.configDB",
    "storage.dbPath",
    "storage.directoryPerDB",
    "storage.engine",
    "systemLog.destination",
    "systemLog.logAppend",
    "systemLog.path",
];
/// What of a base is dropped: the agent's layer says something else that excludes it.
const EXCLUDED: [&str; 2] = ["net.bindIpAll", "systemLog.syslogFacility"];
/// Where a server keeps its log with a service manager.
const LOG: [&str; 3] = ["systemLog.destination", "systemLog.path", "systemLog.logAppend"];

pub(super) type Conf = Layers<Yaml>;

/// The configuration of one server.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) layout: Layout,
    pub(super) program: Arc<ServerProgram>,
    /// The program of a query router.
    pub(super) router: Arc<ServerProgram>,
    pub(super) owner: Owner,
    pub(super) in_container: bool,
}

/// An option that belongs to the agent, or is none.
///
/// # Errors
/// It does, or is.
pub(super) fn refuse_own(name: &str) -> Result<()> {
    if name.split('.').any(str::is_empty) {
        return Err(Error::bad_request(format!("'{}' is not the name of an option", name.escape_debug())));
    }
    let within = |own: &&&str| name.strip_prefix(**own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    match OWN.iter().find(within) {
        Some(_) => Err(Error::bad_request(format!("the option '{name}' belongs to the guest agent and cannot be set"))),
        None => Ok(()),
    }
}

/// Options and values of a document, by name with dots.
pub(super) fn options(document: Option<&Yaml>) -> BTreeMap<String, Value> {
    let settings = document.into_iter().flat_map(Yaml::settings);
    settings.filter(|(_, value)| !value.is_null()).flat_map(|(path, value)| flattened(path.join("."), value)).collect()
}

/// `{a: {b: 1}}` on one line is `a.b`.
fn flattened(name: String, value: Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(children) if !children.is_empty() => {
            children.into_iter().flat_map(|(child, value)| flattened(format!("{name}.{child}"), value)).collect()
        }
        value => vec![(name, value)],
    }
}

/// The files of a configuration that a server starts from `main_file` with.
pub(super) fn store(layout: &Layout, owner: Option<&'static str>, main_file: Utf8PathBuf) -> Store {
    Store { main_file, directory: layout.override_dir(), extension: "rev", style: Style::Merge, mode: MODE, owner }
}

impl Configuration {
    /// The files of a server in this role.
    fn store(&self, role: Option<&Role>) -> Store {
        store(&self.layout, self.account(), self.main_file(role))
    }

    fn main_file(&self, role: Option<&Role>) -> Utf8PathBuf {
        if role == Some(&Role::QueryRouter) { self.layout.router_file() } else { self.layout.main_file() }
    }

    /// The program that reads these layers.
    pub(super) fn program_of(&self, role: Option<&Role>) -> &ServerProgram {
        if role == Some(&Role::QueryRouter) { &self.router } else { &self.program }
    }

    /// This guest's role in a cluster; none outside of one.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn role(&self) -> Result<Option<Role>> {
        Ok(Role::of(&self.read()?))
    }

    /// How the agent's own user logs in; `None` when nobody has made it, or told this guest its password.
    ///
    /// # Errors
    /// The file is damaged.
    pub(super) fn credentials(&self) -> Result<Option<Login>> {
        credentials::read(&self.layout.credentials())
    }

    fn account(&self) -> Option<&'static str> {
        (!self.in_container).then(|| self.owner.name())
    }

    /// The layers as they are in the files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn read(&self) -> Result<Conf> {
        self.store(None).read()
    }

    /// What the server reads when it starts.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn effective(&self) -> Result<Yaml> {
        self.read()?.merged()
    }

    /// The port of the server.
    ///
    /// # Errors
    /// A file cannot be read, or has no number there.
    pub(super) fn port(&self) -> Result<u16> {
        port(&self.effective()?)
    }

    /// What the agent needs of the server.
    fn system_layer(&self, role: Option<&Role>) -> Result<Yaml> {
        let layout = &self.layout;
        let mut own: Vec<(&str, Value)> = vec![
            ("net.bindIp", json!("*")),
            ("net.unixDomainSocket.enabled", json!(true)),
            ("net.unixDomainSocket.pathPrefix", json!(layout.run_dir())),
            ("processManagement.fork", json!(false)),
            ("processManagement.pidFilePath", json!(layout.run_dir().join("mongod.pid"))),
            ("setParameter.enableLocalhostAuthBypass", json!(false)),
        ];
        if role != Some(&Role::QueryRouter) {
            own.push(("storage.dbPath", json!(layout.data_dir)));
        }
        // In a cluster its layer says who is let in.
        if role.is_none() {
            own.extend([("security.authorization", json!("enabled")), ("security.keyFile", json!(layout.key_file()))]);
        }
        if layout.control == ServiceControlKind::Systemd {
            own.extend([
                ("systemLog.destination", json!("file")),
                ("systemLog.path", json!(layout.error_log())),
                ("systemLog.logAppend", json!(true)),
            ]);
        }
        let mut layer = Yaml::parse("");
        own.iter().try_for_each(|(name, value)| layer.set(&flat::path(name), value))?;
        Ok(layer)
    }

    /// A base that the agent's layer goes with.
    fn fitting(&self, mut base: Yaml, role: Option<&Role>) -> Yaml {
        if role == Some(&Role::QueryRouter) {
            // One template for all roles: a router has no storage, as with Trove.
            base.remove(&["storage"]);
        }
        let log: &[&str] = if self.layout.control == ServiceControlKind::Systemd { &[] } else { &LOG };
        for name in EXCLUDED.iter().chain(log) {
            base.remove(&flat::path(name));
        }
        base
    }

    /// Has the server read `layers`; nothing is written.
    async fn objection(&self, op: &Op, layers: &Conf) -> Result<Option<Objection>> {
        let parent = self.layout.config_dir();
        files::ensure_directory_exists(parent, 0o755, None)?;
        // Beside the real file: there the server may read, also from inside a container.
        let scratch =
            tempfile::Builder::new().prefix(files::SCRATCH).tempdir_in(parent).action(format!("create a directory in {parent}"))?;
        let directory = Utf8PathBuf::from_path_buf(scratch.path().to_owned())
            .map_err(|path| Error::guest(format!("{} is not a path of plain text", path.display())))?;
        let file = directory.join("mongod.conf");
        files::write_atomic(&file, cluster::to_be_read(layers.merged()?)?.render().as_bytes(), 0o600, None)?;
        self.owner.take(op, &directory).await?;
        self.program_of(Role::of(layers).as_ref()).objection(op, &file).await
    }

    /// Has the server read `layers`; nothing is written.
    ///
    /// # Errors
    /// It refuses something; its words are in the error.
    pub(super) async fn check(&self, op: &Op, layers: &Conf) -> Result<()> {
        match self.objection(op, layers).await? {
            None => Ok(()),
            Some(Objection::Refused(reason)) => Err(Error::bad_request(format!("the server refuses the configuration: {reason}"))),
            Some(Objection::Unknown(name)) => {
                Err(Error::bad_request(format!("the server refuses the configuration: it has no option {name}")))
            }
        }
    }

    /// Writes what `to` has different from `from`, which is in the files.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) async fn write(&self, op: &Op, from: &Conf, to: &Conf) -> Result<()> {
        let role = Role::of(to);
        self.store(role.as_ref()).write(from, to)?;
        if self.in_container { self.owner.take(op, &self.main_file(role.as_ref())).await } else { Ok(()) }
    }

    /// A new base: role and group stay. What the server does not know in the base is left out: Trove renders one template for all versions of a server.
    ///
    /// # Errors
    /// The server refuses a value, or a file cannot be written. Nothing has changed then.
    pub(super) async fn write_base(&self, op: &Op, contents: &str) -> Result<()> {
        let before = self.read()?;
        let role = Role::of(&before);
        let after = self.with_base(op, before.clone(), contents, role.as_ref()).await?;
        self.check(op, &after).await?;
        self.write(op, &before, &after).await
    }

    /// The base of a new instance, without layers of whatever this guest has been before.
    ///
    /// # Errors
    /// Those of [`Self::write_base`].
    pub(super) async fn write_first(&self, op: &Op, contents: &str, group: Option<Yaml>, membership: Option<&Membership>) -> Result<()> {
        let part = match membership {
            Some(membership) => {
                let base = if contents.trim().is_empty() { self.read()?.base } else { flat::parse(contents)? };
                Some(membership.layer(&self.layout, port(&base)?)?)
            }
            None => None,
        };
        self.write_again(op, contents, group, part).await
    }

    /// Likewise, of an instance whose part in a cluster is known already.
    ///
    /// # Errors
    /// Those of [`Self::write_base`].
    pub(super) async fn write_again(&self, op: &Op, contents: &str, group: Option<Yaml>, part: Option<Yaml>) -> Result<()> {
        let before = self.read()?;
        let mut after = Layers::new(before.base.clone());
        if let Some(part) = part {
            after.set_change(Group::System, CLUSTERING, part);
        }
        let role = Role::of(&after);
        after = self.with_base(op, after, contents, role.as_ref()).await?;
        if let Some(group) = group {
            after.set_change(Group::User, COMMON, group);
        }
        self.check(op, &after).await?;
        self.write(op, &before, &after).await
    }

    async fn with_base(&self, op: &Op, mut layers: Conf, contents: &str, role: Option<&Role>) -> Result<Conf> {
        if !contents.trim().is_empty() {
            layers.base = flat::parse(contents).action("read the base configuration")?;
        }
        layers.base = self.fitting(layers.base, role);
        layers.set_change(Group::System, COMMON, self.system_layer(role)?);
        self.leave_unknown_out(op, &mut layers).await?;
        Ok(layers)
    }

    async fn leave_unknown_out(&self, op: &Op, layers: &mut Conf) -> Result<()> {
        // It names one at a time.
        while let Some(Objection::Unknown(name)) = self.objection(op, layers).await? {
            if !layers.base.remove(&flat::path(&name)) {
                return Ok(());
            }
            tracing::warn!(option = name, "the server does not know an option of the base configuration: it is left out");
        }
        Ok(())
    }

    /// Writes the secret that members of a cluster know each other by, for the server alone: a server refuses a file that others may read.
    ///
    /// # Errors
    /// It is no such secret, or the file cannot be written.
    pub(super) async fn write_key(&self, op: &Op, key: &SecretString) -> Result<()> {
        let (file, text) = (self.layout.key_file(), key.expose_secret());
        files::ensure_directory_exists(self.layout.config_dir(), 0o755, None)?;
        // (manual, "Keyfile Security") From 6 to 1024 characters of the base64 set.
        let valid = (6..=1024).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
        if !valid {
            return Err(Error::invalid("the key of a cluster has from 6 to 1024 letters, digits, '+', '/' and '='"));
        }
        files::write_atomic(&file, text.as_bytes(), 0o400, None)?;
        self.owner.take(op, &file).await
    }
}

impl KeyHolder for Configuration {
    fn access(&self) -> Result<Access> {
        let layers = self.read()?;
        let socket = self.layout.socket(port(&layers.merged()?)?);
        let login = match self.credentials()? {
            Some(login) => Some(login),
            None => cluster::cluster_login(&self.layout, &layers)?,
        };
        Ok(Access { address: Address::Socket(socket), login })
    }
}

fn port(document: &Yaml) -> Result<u16> {
    match document.get(&["net", "port"]) {
        None | Some(Value::Null) => Ok(MONGODB.port),
        Some(value) => value
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .ok_or_else(|| Error::guest(format!("the server's port is {value} in its configuration"))),
    }
}

/// True for a directory with a server's data in it.
pub(super) fn is_database(directory: &Utf8Path) -> bool {
    ["WiredTiger", "storage.bson"].iter().any(|name| directory.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_agent_is_refused_with_all_below_it() {
        for own in ["net.port", "processManagement.fork", "processManagement", "net.unixDomainSocket.pathPrefix", "", "a..b", ".net"] {
            assert!(refuse_own(own).is_err(), "{own}");
        }
        assert!(["net.portable", "net.maxIncomingConnections", "systemLog.verbosity"].into_iter().all(|name| refuse_own(name).is_ok()));
    }

    #[test]
    fn options_are_found_in_every_form() {
        let document = Yaml::parse("net: {port: 1, tls: {mode: disabled}}\nstorage:\n  journal:\n    enabled: true\nsecurity:\n");
        let names: Vec<String> = options(Some(&document)).into_keys().collect();
        assert_eq!(names, ["net.port", "net.tls.mode", "storage.journal.enabled"]);
    }
}
