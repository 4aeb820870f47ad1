//! The server's configuration: one base file, and override files beside it.
//!
//! Names and precedence of the override files are those of Trove's `ImportOverrideStrategy`
//! (trove/guestagent/common/configuration.py): `20-user-001-common.cnf` for the user's group, `50-system-001-common.cnf` for
//! what the agent needs. They are read in this order, after the base file.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::flavor::Flavor;
use super::layout::Layout;
use super::option_file::{OptionFile, is_server_group, normalize};
use super::server::ServerProgram;
use crate::error::{Error, Result, ResultExt};
use crate::model::Overrides;
use crate::op::Op;
use crate::system::files;

/// The user's configuration group.
const USER_FILE: &str = "20-user-001-common.cnf";
/// What the agent itself needs.
const SYSTEM_FILE: &str = "50-system-001-common.cnf";
/// Present only while a server starts that must create the agent's account.
const INIT_FILE: &str = "99-system-001-init.cnf";
/// What the agent alone decides: a group that moved these would take the server away from it.
const OWN_OPTIONS: &[&str] = &["datadir", "socket", "pid_file", "init_file"];
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
    fn override_file(&self, name: &str) -> Utf8PathBuf {
        self.layout.override_dir.join(name)
    }

    /// Writes base file and system override. What the server does not know in the base file becomes `loose-...`: Trove renders one
    /// template for all versions of a server.
    ///
    /// # Errors
    /// The server refuses a value, or a file cannot be written. Nothing has changed then.
    pub(super) async fn write_base(&self, op: &Op, contents: &str) -> Result<()> {
        files::ensure_directory(self.layout.config_dir(), 0o755, None)?;
        let base = self.adapt(op, contents).await?;
        let flavor = self.program.flavor(op).await?;
        let system = self.system_options(&base, flavor);
        self.check(op, &base, &[(SYSTEM_FILE, Some(system.render()?))]).await?;
        files::ensure_directory(&self.layout.override_dir, 0o755, None)?;
        files::write_atomic(&self.override_file(SYSTEM_FILE), system.render()?.as_bytes(), MODE, None)?;
        // Debian's my.cnf is a symbolic link into its alternatives: the link is replaced, not its target.
        files::write_atomic(&self.layout.main_file, base.render()?.as_bytes(), MODE, None)
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
        let has = |wanted: &str| {
            base.options().any(|(group, name, value)| is_server_group(group) && normalize(name) == wanted && value.is_some())
        };
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

    /// Names of the override files of one change, whoever wrote them: `50-system-<number>-<change>.cnf`.
    fn change_files(&self, change: &str) -> Result<Vec<String>> {
        let names = self.override_texts()?.into_iter().map(|(name, _)| name);
        let is_change = |name: &String| name.starts_with("50-system-") && name.ends_with(&format!("-{change}.cnf"));
        Ok(names.filter(is_change).collect())
    }

    /// The text of a change of the system's; `None` when there is none.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn system_change(&self, change: &str) -> Result<Option<String>> {
        let names = self.change_files(change)?;
        Ok(self.override_texts()?.into_iter().find(|(name, _)| names.contains(name)).map(|(_, text)| text))
    }

    /// Writes a change of the system's, in place of an earlier one.
    ///
    /// # Errors
    /// The server refuses an option; nothing has changed then.
    pub(super) async fn write_system_change(&self, op: &Op, number: u8, change: &str, options: &OptionFile) -> Result<()> {
        let text = options.render()?;
        let name = format!("50-system-{number:03}-{change}.cnf");
        let others: Vec<String> = self.change_files(change)?.into_iter().filter(|other| *other != name).collect();
        let mut changes: Vec<(&str, Option<String>)> = others.iter().map(|other| (other.as_str(), None)).collect();
        changes.push((&name, Some(text.clone())));
        let base = files::read_optional(&self.layout.main_file)?.unwrap_or_default();
        self.check(op, &OptionFile::parse(&base), &changes).await?;
        files::ensure_directory(&self.layout.override_dir, 0o755, None)?;
        files::write_atomic(&self.override_file(&name), text.as_bytes(), MODE, None)?;
        others.iter().try_for_each(|other| files::remove(&self.override_file(other)))
    }

    /// Removes a change of the system's.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn remove_system_change(&self, change: &str) -> Result<()> {
        self.change_files(change)?.iter().try_for_each(|name| files::remove(&self.override_file(name)))
    }

    /// The file the server writes its messages to.
    pub(super) fn error_log(&self) -> Utf8PathBuf {
        let configured = || {
            let text = files::read_optional(&self.layout.main_file).ok().flatten()?;
            let base = OptionFile::parse(&text);
            let named = base.options().filter(|(group, name, _)| is_server_group(group) && normalize(name) == "log_error");
            let path = named.last()?.2.map(Utf8PathBuf::from)?;
            Some(if path.is_absolute() { path } else { self.layout.data_dir.join(path) })
        };
        configured().unwrap_or_else(|| self.layout.error_log.clone())
    }

    /// Writes the user's group. A dictionary is merged with what is there, as in Trove; a rendered text replaces it.
    ///
    /// # Errors
    /// The server does not know an option or refuses a value; nothing has changed then.
    pub(super) async fn write_user(&self, op: &Op, overrides: &Overrides) -> Result<()> {
        let current = files::read_optional(&self.override_file(USER_FILE))?.unwrap_or_default();
        let new = user_options(OptionFile::parse(&current), overrides)?;
        let known = self.program.known_options(op).await?;
        for (group, name, value) in new.options().filter(|(group, ..)| is_server_group(group)) {
            if OWN_OPTIONS.contains(&normalize(name).as_str()) {
                return Err(Error::bad_request(format!("the option '{name}' of [{group}] belongs to the guest agent and cannot be set")));
            }
            if !known.contains(name) {
                return Err(Error::bad_request(format!("the server does not know the option '{name}'")));
            }
            if value.is_some_and(|value| !known.accepts(name, value)) {
                return Err(Error::bad_request(format!("the value of the option '{name}' must be a number")));
            }
        }
        let text = new.render()?;
        let base = files::read_optional(&self.layout.main_file)?.unwrap_or_default();
        self.check(op, &OptionFile::parse(&base), &[(USER_FILE, Some(text.clone()))]).await?;
        files::ensure_directory(&self.layout.override_dir, 0o755, None)?;
        files::write_atomic(&self.override_file(USER_FILE), text.as_bytes(), MODE, None)
    }

    /// Removes the user's group.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(super) fn remove_user(&self) -> Result<()> {
        files::remove(&self.override_file(USER_FILE))
    }

    /// Makes the server run `statements` when it starts next.
    pub(super) fn set_init_file(&self, statements: &Utf8Path) -> Result<()> {
        let mut file = OptionFile::of_group("mysqld");
        file.set("init-file", Some(statements.to_string()));
        files::write_atomic(&self.override_file(INIT_FILE), file.render()?.as_bytes(), MODE, None)
    }

    /// Takes [`Self::set_init_file`] back.
    pub(super) fn clear_init_file(&self) -> Result<()> {
        files::remove(&self.override_file(INIT_FILE))
    }

    /// Lets the server read `base` with the override files as they are, but for `changes` (no text: as if removed).
    async fn check(&self, op: &Op, base: &OptionFile, changes: &[(&str, Option<String>)]) -> Result<()> {
        let parent = self.layout.config_dir();
        // Beside the real file: there the server may read, also from inside a container.
        let scratch =
            tempfile::Builder::new().prefix(".trove-check-").tempdir_in(parent).action(format!("create a directory in {parent}"))?;
        let scratch_dir = Utf8PathBuf::from_path_buf(scratch.path().to_owned())
            .map_err(|path| Error::guest(format!("{} is not a path of plain text", path.display())))?;
        let overrides = scratch_dir.join("conf.d");
        files::ensure_directory(&overrides, 0o755, None)?;
        files::ensure_directory(&scratch_dir, 0o755, None)?;
        for (name, text) in self.override_texts()? {
            if !changes.iter().any(|(changed, _)| *changed == name) {
                files::write_atomic(&overrides.join(name), text.as_bytes(), MODE, None)?;
            }
        }
        for (name, text) in changes {
            if let Some(text) = text {
                files::write_atomic(&overrides.join(name), text.as_bytes(), MODE, None)?;
            }
        }
        let mut base = base.clone();
        base.set_include_directory(&format!("{overrides}/"));
        let file = scratch_dir.join("my.cnf");
        files::write_atomic(&file, base.render()?.as_bytes(), MODE, None)?;
        self.program.check(op, &file).await
    }

    fn override_texts(&self) -> Result<Vec<(String, String)>> {
        let directory = &self.layout.override_dir;
        if !directory.is_dir() {
            return Ok(Vec::new());
        }
        let mut texts = Vec::new();
        for entry in directory.read_dir_utf8().action(format!("read {directory}"))? {
            let entry = entry.action(format!("read {directory}"))?;
            if entry.path().extension() == Some("cnf") {
                texts.extend(files::read_optional(entry.path())?.map(|text| (entry.file_name().to_owned(), text)));
            }
        }
        Ok(texts)
    }
}

/// A server id that no other instance is likely to have: 1 to 2³²−2, from the guest's id (FNV-1a).
fn unique_server_id(guest_id: &str) -> u32 {
    let hash = guest_id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.clamp(1, u32::MAX - 1)
}

fn user_options(current: OptionFile, overrides: &Overrides) -> Result<OptionFile> {
    match overrides {
        Overrides::Text(text) => {
            let file = OptionFile::parse(text);
            if file.includes().next().is_some() {
                return Err(Error::bad_request("a configuration group must not include files"));
            }
            Ok(file)
        }
        Overrides::Values(values) => {
            let mut file = if current.options().next().is_some() { current } else { OptionFile::of_group("mysqld") };
            for (name, value) in values {
                check_option_name(name)?;
                file.set(name, option_value(name, value)?);
            }
            Ok(file)
        }
    }
}

/// An option's name has nothing a file or a statement could misread.
pub(super) fn check_option_name(name: &str) -> Result<()> {
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if valid { Ok(()) } else { Err(Error::invalid(format!("'{}' is not the name of an option", name.escape_debug()))) }
}

fn option_value(name: &str, value: &Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(u8::from(*flag).to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(_) | Value::Object(_) => {
            Err(Error::invalid(format!("the value of option '{name}' is neither text, number nor boolean")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(current: &str, overrides: Overrides) -> Result<String> {
        user_options(OptionFile::parse(current), &overrides)?.render()
    }

    fn values(value: Value) -> Overrides {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_dictionary_is_merged_and_typed() {
        let text = render(
            "[mysqld]\nmax-connections = 5\nwait_timeout = 7\n",
            values(json!({"max_connections": 10, "local_infile": false, "skip_name_resolve": null})),
        );
        assert_eq!(text.unwrap(), "[mysqld]\nwait_timeout = 7\nlocal_infile = 0\nmax_connections = 10\nskip_name_resolve\n");
    }

    #[test]
    fn nothing_but_options_gets_into_a_group() {
        for bad in [
            json!({"x\n[client]": 1}),
            json!({"!include": "/etc/shadow"}),
            json!({"x": "1\ninit_file=/x"}),
            json!({"x": [1]}),
            json!({"": 1}),
        ] {
            assert!(render("", values(bad.clone())).is_err(), "{bad}");
        }
        assert!(render("", Overrides::Text("[mysqld]\n!includedir /etc\n".into())).is_err());
        assert_eq!(render("x = 1\n", Overrides::Text("[mysqld]\nmax_connections=3".into())).unwrap(), "[mysqld]\nmax_connections = 3\n");
    }
}
