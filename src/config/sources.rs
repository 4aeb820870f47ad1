//! Which files are read, in which order, and what the environment adds.
//!
//! Mirrors `find_config_files`, `_parse_config_files`, `ConfigFileAction` and `ConfigDirAction` of oslo_config/cfg.py.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::SecretString;

use super::error::{ConfigError, Origin};
use super::ini::parse_leniently;
use super::lookup::{Layers, LoadedFile};

/// Trove's project name, of which `trove.conf` and `~/.trove` are made.
const PROJECT: &str = "trove";
/// The name the default files go by, whatever the binary is called.
const PROGRAM: &str = "trove-guestagent";

/// A `--config-file` or `--config-dir` of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigArgument {
    /// `--config-file`.
    File(Utf8PathBuf),
    /// `--config-dir`: every `*.conf` in it, sorted by name.
    Dir(Utf8PathBuf),
}

impl ConfigArgument {
    /// The arguments with ids `config_file` and `config_dir` of a parsed command line, in the order they were given.
    pub fn in_order(matches: &clap::ArgMatches) -> Vec<ConfigArgument> {
        let of = |id: &str, make: fn(Utf8PathBuf) -> ConfigArgument| -> Vec<(usize, ConfigArgument)> {
            let values = matches.try_get_many::<Utf8PathBuf>(id).ok().flatten().into_iter().flatten();
            matches.indices_of(id).into_iter().flatten().zip(values.cloned().map(make)).collect()
        };
        let mut found = of("config_file", ConfigArgument::File);
        found.extend(of("config_dir", ConfigArgument::Dir));
        found.sort_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, argument)| argument).collect()
    }
}

/// Everything outside the agent that decides what is read.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The command line's share, in the order given; later wins.
    pub arguments: Vec<ConfigArgument>,
    /// Variables named `OS_<GROUP>__<OPTION>`; they win over files.
    pub environment: BTreeMap<String, SecretString>,
    /// What `~` means.
    pub home: Option<Utf8PathBuf>,
    /// Folders searched for default files, the first that has one wins: `~/.trove ~ /etc/trove /etc` and a snap's own.
    pub default_dirs: Vec<Utf8PathBuf>,
}

impl Sources {
    /// The sources of this process: its environment, and the home of its user.
    pub fn of_process(arguments: Vec<ConfigArgument>) -> Self {
        let text = |value: &OsStr| value.to_str().map(Utf8PathBuf::from);
        let variable = |name: &str| std::env::var_os(name).and_then(|value| text(&value)).filter(|path| !path.as_str().is_empty());
        // systemd sets HOME only for units with User=, and Python's expanduser then asks the user database.
        let home = variable("HOME").or_else(|| {
            let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten()?;
            Utf8PathBuf::from_path_buf(user.dir).ok()
        });
        let mut default_dirs: Vec<Utf8PathBuf> = Vec::new();
        if let Some(home) = &home {
            default_dirs.extend([home.join(format!(".{PROJECT}")), home.clone()]);
        }
        default_dirs.extend([Utf8PathBuf::from("/etc").join(PROJECT), Utf8PathBuf::from("/etc")]);
        default_dirs.extend(["SNAP_COMMON", "SNAP"].into_iter().filter_map(variable).map(|dir| dir.join("etc").join(PROJECT)));
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("OS_") && name.contains("__"))
            .map(|(name, value)| (name, SecretString::from(value)))
            .collect();
        Sources { arguments, environment, home, default_dirs }
    }

    /// Reads everything. Files that cannot be read and malformed lines are mistakes; the rest of what was read still counts, so
    /// that further mistakes are found in the same run.
    pub(super) fn read(&self) -> Gathered {
        let mut gathered = Gathered::default();
        gathered.layers.environment = self.environment.clone();
        for place in self.places() {
            match place {
                ConfigArgument::File(path) => gathered.file(&path),
                ConfigArgument::Dir(path) => gathered.dir(&path),
            }
        }
        gathered
    }

    /// What a look at the files themselves, without reading them, tells of what is in them: two looks that are equal saw the same.
    pub fn stamps(&self) -> Vec<FileStamp> {
        let mut stamps = Vec::new();
        for place in self.places() {
            match place {
                ConfigArgument::File(path) => stamps.push(FileStamp::of(path)),
                ConfigArgument::Dir(path) => {
                    stamps.extend(conf_files(&path).unwrap_or_default().into_iter().map(FileStamp::of));
                    stamps.push(FileStamp::of(path));
                }
            }
        }
        stamps
    }

    /// The files that are read, in their order.
    pub fn files(&self) -> Vec<Utf8PathBuf> {
        let of = |place: ConfigArgument| match place {
            ConfigArgument::File(path) => vec![path],
            ConfigArgument::Dir(path) => conf_files(&path).unwrap_or_default(),
        };
        self.places().into_iter().flat_map(of).collect()
    }

    /// Files and folders in the order they are read; later wins.
    fn places(&self) -> Vec<ConfigArgument> {
        let mut places = Vec::new();
        if !self.arguments.iter().any(|argument| matches!(argument, ConfigArgument::File(_))) {
            places.extend(self.defaults(".conf").into_iter().map(ConfigArgument::File));
        }
        if !self.arguments.iter().any(|argument| matches!(argument, ConfigArgument::Dir(_))) {
            places.extend(self.defaults(".conf.d").into_iter().map(ConfigArgument::Dir));
        }
        places.extend(self.arguments.iter().map(|argument| match argument {
            ConfigArgument::File(path) => ConfigArgument::File(self.expand_home(path)),
            ConfigArgument::Dir(path) => ConfigArgument::Dir(self.expand_home(path)),
        }));
        places
    }

    /// `trove` and `trove-guestagent` with `suffix`, each from the first folder that has it.
    fn defaults(&self, suffix: &str) -> Vec<Utf8PathBuf> {
        [PROJECT, PROGRAM]
            .into_iter()
            .filter_map(|name| self.default_dirs.iter().map(|dir| dir.join(format!("{name}{suffix}"))).find(|path| path.exists()))
            .collect()
    }

    fn expand_home(&self, path: &Utf8Path) -> Utf8PathBuf {
        match (&self.home, path.strip_prefix("~")) {
            (Some(home), Ok(rest)) => home.join(rest),
            _ => path.to_owned(),
        }
    }
}

/// A file or folder as its inode shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    path: Utf8PathBuf,
    /// Device, inode, size, and the times of the last change of content and inode; `None` when there is no such file.
    seen: Option<(u64, u64, u64, [i64; 4])>,
}

impl FileStamp {
    fn of(path: Utf8PathBuf) -> Self {
        let seen = fs::metadata(&path)
            .ok()
            .map(|file| (file.dev(), file.ino(), file.size(), [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()]));
        FileStamp { path, seen }
    }
}

/// The files of a `--config-dir`, in order.
fn conf_files(dir: &Utf8Path) -> io::Result<Vec<Utf8PathBuf>> {
    let names = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()?;
    let mut names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.retain(|name| name.ends_with(".conf") && !name.starts_with('.'));
    names.sort_unstable();
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

/// What reading brought.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) layers: Layers,
    pub(super) errors: Vec<ConfigError>,
    /// Folders searched, for the message that something required is missing.
    pub(super) dirs: Vec<Utf8PathBuf>,
}

impl Gathered {
    fn file(&mut self, path: &Utf8Path) {
        match fs::read(path) {
            Ok(bytes) => self.text(path, &bytes),
            Err(error) => {
                let advice = match error.kind() {
                    io::ErrorKind::NotFound => "write the file, or take it off the command line",
                    io::ErrorKind::PermissionDenied => "run the agent as root, or let its user read the file",
                    io::ErrorKind::IsADirectory => "give a folder with --config-dir",
                    _ => "make the file readable",
                };
                self.errors.push(ConfigError::new(Origin::whole_file(path), format!("cannot be read ({error}); {advice}")));
            }
        }
    }

    fn dir(&mut self, path: &Utf8Path) {
        self.dirs.push(path.to_owned());
        match conf_files(path) {
            Ok(files) => files.iter().for_each(|file| self.file(file)),
            Err(error) => {
                let advice = match error.kind() {
                    io::ErrorKind::NotFound => "create it, or correct --config-dir",
                    io::ErrorKind::NotADirectory => "give a file with --config-file",
                    _ => "run the agent as root, or let its user read the folder",
                };
                self.errors.push(ConfigError::new(Origin::whole_file(path), format!("cannot be read as a folder ({error}); {advice}")));
            }
        }
    }

    pub(super) fn text(&mut self, path: &Utf8Path, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let bad_lines = bytes.split(|byte| *byte == b'\n').enumerate();
        for (index, line) in bad_lines.filter(|(_, line)| !line.starts_with(b"#") && !line.starts_with(b";")) {
            if std::str::from_utf8(line).is_err() {
                self.errors
                    .push(ConfigError::new(Origin::File(path.to_owned(), index + 1), "the line is not UTF-8; save the file as UTF-8"));
            }
        }
        let (ini, errors) = parse_leniently(&text);
        let place = |line| Origin::File(path.to_owned(), line);
        self.errors.extend(errors.into_iter().map(|error| ConfigError::new(place(error.line), error.message)));
        self.layers.files.push(LoadedFile { path: path.to_owned(), ini });
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[arg(long)]
        config_file: Vec<Utf8PathBuf>,
        #[arg(long)]
        config_dir: Vec<Utf8PathBuf>,
    }

    #[test]
    fn arguments_keep_their_order_across_both_options() {
        let line = ["agent", "--config-file=a", "--config-dir", "b", "--config-file", "c", "--config-dir=d"];
        let matches = Cli::command().try_get_matches_from(line).unwrap();
        let order = ConfigArgument::in_order(&matches);
        let file = |name: &str| ConfigArgument::File(name.into());
        let dir = |name: &str| ConfigArgument::Dir(name.into());
        assert_eq!(order, [file("a"), dir("b"), file("c"), dir("d")]);
        assert!(ConfigArgument::in_order(&Cli::command().try_get_matches_from(["agent"]).unwrap()).is_empty());
    }

    #[test]
    fn the_process_has_etc_among_its_folders_and_only_options_from_its_environment() {
        let sources = Sources::of_process(Vec::new());
        assert!(sources.default_dirs.iter().any(|dir| dir == "/etc/trove"));
        assert!(sources.environment.keys().all(|name| name.starts_with("OS_") && name.contains("__")));
        assert!(sources.home.is_some());
    }
}
