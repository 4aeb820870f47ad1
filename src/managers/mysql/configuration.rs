//! The server's configuration: one base file, and override files beside it ([`Layers`]).
//!
//! Names and precedence of the override files are those of Trove's `ImportOverrideStrategy`
//! (trove/guestagent/common/configuration.py): `20-user-001-common.cnf` for the user's group, `50-system-001-common.cnf` for
//! what the agent needs. They are read in this order, after the base file.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use super::flavor::Flavor;
use super::layout::Layout;
use super::server::{Reading, ServerProgram};
use crate::codec::Document;
use crate::codec::my_cnf::OptionFile;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::{COMMON, Group, Layers, Store, Style};
use crate::op::Op;
use crate::system::files;

/// Present only while a server starts that must create the agent's account.
const INIT_FILE: &str = "99-system-001-init.cnf";
/// While the data may be a copy of a replica's.
const ALONE: &str = "99-system-002-alone.cnf";
const MODE: u32 = 0o644;

/// The configuration of one server.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) layout: Layout,
    pub(super) program: Arc<ServerProgram>,
    /// Makes `server_id` unique where nobody has set one.
    pub(super) guest_id: String,
}

impl Configuration {
    fn store(&self) -> Store {
        Store {
            main_file: self.layout.main_file.clone(),
            directory: self.layout.override_dir.clone(),
            extension: "cnf",
            style: Style::Include,
            mode: MODE,
            owner: None,
        }
    }

    /// All layers, as they are in the files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn read(&self) -> Result<Layers<OptionFile>> {
        self.store().read()
    }

    /// Writes what `to` has different from `from`, which is in the files.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn write(&self, from: &Layers<OptionFile>, to: &Layers<OptionFile>) -> Result<()> {
        self.store().write(from, to)
    }

    /// Makes a change of the configuration in the files alone, after the server has taken it.
    ///
    /// # Errors
    /// The server refuses an option; nothing has changed then. Or a file cannot be written.
    pub(super) async fn change(&self, op: &Op, edit: impl FnOnce(&mut Layers<OptionFile>)) -> Result<()> {
        let before = self.read()?;
        let mut after = before.clone();
        edit(&mut after);
        self.check(op, &after).await?;
        self.write(&before, &after)
    }

    /// Writes base file and system override. What the server does not know in the base file becomes `loose-...`: Trove renders one
    /// template for all versions of a server. All other changes stay as they are.
    ///
    /// # Errors
    /// The server refuses a value, or a file cannot be written. Nothing has changed then.
    pub(super) async fn write_base(&self, op: &Op, contents: &str) -> Result<()> {
        files::ensure_directory(self.layout.config_dir(), 0o755, None)?;
        files::ensure_directory(&self.layout.override_dir, 0o755, None)?;
        let base = self.adapt(op, contents).await?;
        let flavor = self.program.flavor(op).await?;
        let system = self.system_options(&base, flavor);
        self.change(op, |layers| {
            layers.base = base;
            layers.set_change(Group::System, COMMON, system);
        })
        .await
    }

    async fn adapt(&self, op: &Op, contents: &str) -> Result<OptionFile> {
        let known = self.program.known_options(op).await?;
        let mut base = OptionFile::parse(contents);
        let mut unknown = Vec::new();
        base.rename_server_options(|name| {
            if known.contains(name) {
                return None;
            }
            unknown.push(name.to_owned());
            Some(format!("loose-{name}"))
        });
        if !unknown.is_empty() {
            tracing::warn!(options = unknown.join(", "), "the server does not know options of the base configuration and will ignore them");
        }
        base.set_include_directory(&format!("{}/", self.layout.override_dir));
        Ok(base)
    }

    fn system_options(&self, base: &OptionFile, flavor: Flavor) -> OptionFile {
        let layout = &self.layout;
        let socket = &layout.socket;
        let mut text = format!(
            "[client]\nsocket = {socket}\n[mysqld]\ndatadir = {}\nsocket = {socket}\npid-file = {}\n",
            layout.data_dir, layout.pid_file
        );
        let has = |wanted: &str| base.server_options().any(|(name, value)| name == wanted && value.is_some());
        if layout.sets_error_log && !has("log_error") {
            text.push_str(&format!("log-error = {}\n", layout.error_log));
        }
        // The names do not depend on the guest's host name, and a later replica need not be restarted for them.
        text.push_str(&format!("relay-log = {}\nrelay-log-recovery = ON\n", self.log_base(flavor, "relay-bin")));
        if !has("server_id") {
            text.push_str(&format!("server-id = {}\n", unique_server_id(&self.guest_id)));
        }
        OptionFile::parse(&text)
    }

    /// Where a log of replication is: in the data directory, on the volume, whatever directory a template names.
    pub(super) fn log_base(&self, flavor: Flavor, kind: &str) -> Utf8PathBuf {
        let family = if flavor.is_mariadb() { "mariadb" } else { "mysql" };
        self.layout.data_dir.join(format!("{family}-{kind}"))
    }

    /// A change of the system's; `None` when there is none.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn system_change(&self, id: &str) -> Result<Option<OptionFile>> {
        Ok(self.read()?.change(Group::System, id).cloned())
    }

    /// Removes a change of the system's.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn remove_system_change(&self, id: &str) -> Result<()> {
        let before = self.read()?;
        let mut after = before.clone();
        if after.remove_change(Group::System, id) { self.write(&before, &after) } else { Ok(()) }
    }

    /// The file the server writes its messages to.
    pub(super) fn error_log(&self) -> Utf8PathBuf {
        let configured = || {
            let base = self.read().ok()?.base;
            let path = Utf8PathBuf::from(base.server_options().filter(|(name, _)| name == "log_error").last()?.1?);
            Some(if path.is_absolute() { path } else { self.layout.data_dir.join(path) })
        };
        configured().unwrap_or_else(|| self.layout.error_log.clone())
    }

    /// Makes the server run `statements` when it starts next.
    pub(super) fn set_init_file(&self, statements: &Utf8Path) -> Result<()> {
        let mut file = OptionFile::of_group("mysqld");
        file.set_option("mysqld", "init-file", &[Some(statements.to_string())])?;
        files::write_atomic(&self.layout.override_dir.join(INIT_FILE), file.render().as_bytes(), MODE, None)
    }

    /// Takes [`Self::set_init_file`] back.
    pub(super) fn clear_init_file(&self) -> Result<()> {
        files::remove(&self.layout.override_dir.join(INIT_FILE))
    }

    /// Keeps a server with a copy of a replica's data from following that one's source.
    pub(super) fn stay_alone(&self) -> Result<()> {
        let mut file = OptionFile::of_group("mysqld");
        for option in ["loose-skip-slave-start", "loose-skip-replica-start"] {
            file.set_option("mysqld", option, &[None])?;
        }
        files::write_atomic(&self.layout.override_dir.join(ALONE), file.render().as_bytes(), MODE, None)
    }

    /// Takes [`Self::stay_alone`] back.
    pub(super) fn stay_alone_no_more(&self) -> Result<()> {
        files::remove(&self.layout.override_dir.join(ALONE))
    }

    /// Lets the server read `layers`, and say what it makes of them.
    ///
    /// # Errors
    /// It refuses something; its words are in the error.
    pub(super) async fn check(&self, op: &Op, layers: &Layers<OptionFile>) -> Result<Reading> {
        let parent = self.layout.config_dir();
        // Beside the real file: there the server may read, also from inside a container.
        let scratch =
            tempfile::Builder::new().prefix(files::SCRATCH).tempdir_in(parent).action(format!("create a directory in {parent}"))?;
        let scratch_dir = Utf8PathBuf::from_path_buf(scratch.path().to_owned())
            .map_err(|path| Error::guest(format!("{} is not a path of plain text", path.display())))?;
        files::ensure_directory(&scratch_dir, 0o755, None)?;
        let overrides = scratch_dir.join("conf.d");
        let file = scratch_dir.join("my.cnf");
        let mut copy = layers.clone();
        copy.base.set_include_directory(&format!("{overrides}/"));
        self.store().write_copy(&copy, file.clone(), overrides)?;
        self.program.read(op, &file).await
    }
}

/// A server id that no other instance is likely to have: 1 to 2³²−2, from the guest's id (FNV-1a).
fn unique_server_id(guest_id: &str) -> u32 {
    let hash = guest_id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.clamp(1, u32::MAX - 1)
}
