//! [`Layout`]: where this guest keeps what belongs to the server.

use camino::{Utf8Path, Utf8PathBuf};

use super::descriptor::REDIS;
use crate::config::{ServiceControlKind, Settings};
use crate::system::service::{ServerCommand, StopSignal};

/// Where distributions put the server; the names of its files follow the program's.
const PROGRAMS: [&str; 2] = ["/usr/bin/redis-server", "/usr/bin/valkey-server"];

/// Paths of one server. They depend on whether it is Redis or Valkey, which is known when its package is there.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Server programs, best first.
    pub programs: Vec<Utf8PathBuf>,
    config_dir: Option<Utf8PathBuf>,
    socket: Option<Utf8PathBuf>,
    mount_point: Option<Utf8PathBuf>,
    /// The agent's own directory.
    pub state_dir: Utf8PathBuf,
    /// Who runs the server.
    pub control: ServiceControlKind,
}

impl Layout {
    /// The layout `settings` ask for.
    pub fn new(settings: &Settings) -> Layout {
        let own = &settings.datastore;
        Layout {
            programs: PROGRAMS.iter().map(Utf8PathBuf::from).collect(),
            config_dir: own.config_dir.clone(),
            socket: own.socket.clone(),
            mount_point: own.mount_point.clone(),
            state_dir: settings.state_dir.clone(),
            control: settings.service_control,
        }
    }

    /// `redis` or `valkey`: the server that is installed.
    pub fn family(&self) -> &'static str {
        let found = self.programs.iter().find(|program| program.is_file());
        let is_valkey = found.and_then(|program| program.file_name()).is_some_and(|name| name.contains("valkey"));
        if is_valkey { "valkey" } else { "redis" }
    }

    /// Accounts the server may run as, its own first: a guest may have had the other one before.
    pub fn owners(&self) -> &'static [&'static str] {
        if self.family() == "valkey" { &["valkey", "redis"] } else { REDIS.owners }
    }

    /// Directory of the configuration.
    pub fn config_dir(&self) -> Utf8PathBuf {
        self.config_dir.clone().unwrap_or_else(|| Utf8Path::new("/etc").join(self.family()))
    }

    /// The configuration file the server starts from. The Red Hat family had it in `/etc` until its ninth release.
    pub fn main_file(&self) -> Utf8PathBuf {
        let name = format!("{}.conf", self.family());
        let old = Utf8Path::new("/etc").join(&name);
        if self.config_dir.is_none() && !self.config_dir().is_dir() && old.is_file() { old } else { self.config_dir().join(name) }
    }

    /// Directory of the layers, as Trove's `OneFileOverrideStrategy` has it.
    pub fn override_dir(&self) -> Utf8PathBuf {
        self.config_dir().join("overrides")
    }

    /// The server's socket.
    pub fn socket(&self) -> Utf8PathBuf {
        self.socket.clone().unwrap_or_else(|| Utf8PathBuf::from(format!("/run/{0}/{0}.sock", self.family())))
    }

    /// Directory of socket and process id.
    pub fn run_dir(&self) -> Utf8PathBuf {
        self.socket().parent().unwrap_or(Utf8Path::new("/")).to_owned()
    }

    /// Mount point of the volume, which is the data directory too.
    pub fn data_dir(&self) -> Utf8PathBuf {
        self.mount_point.clone().unwrap_or_else(|| Utf8Path::new("/var/lib").join(self.family()))
    }

    /// The file the server's messages go to.
    pub fn error_log(&self) -> Utf8PathBuf {
        match self.control {
            ServiceControlKind::Process => self.state_dir.join("server.log"),
            _ => Utf8PathBuf::from(format!("/var/log/{}/server.log", self.family())),
        }
    }

    /// How to run the server without a service manager.
    pub fn server_command(&self) -> ServerCommand {
        ServerCommand {
            programs: self.programs.clone(),
            args: vec![self.main_file().into_string()],
            user: self.owners()[0].to_owned(),
            // It stays what it is started as.
            started_as_user: true,
            run_dirs: vec![self.run_dir()],
            mounts: vec![self.config_dir(), self.data_dir()],
            log_file: self.error_log(),
            stop_signal: StopSignal::Terminate,
        }
    }
}
