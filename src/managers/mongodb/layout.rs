//! [`Layout`]: where this guest keeps what belongs to the server.

use camino::{Utf8Path, Utf8PathBuf};

use super::descriptor::MONGODB;
use crate::config::{ServiceControlKind, Settings};
use crate::system::service::{ServerCommand, StopSignal};

/// Where packages, and archives, put the server.
const PROGRAMS: [&str; 2] = ["/usr/bin/mongod", "/usr/local/bin/mongod"];
/// The same of the query router.
const ROUTERS: [&str; 2] = ["/usr/bin/mongos", "/usr/local/bin/mongos"];

/// Paths of one server.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Server programs, best first.
    pub programs: Vec<Utf8PathBuf>,
    /// Programs of the query router, best first.
    pub routers: Vec<Utf8PathBuf>,
    /// Where a cluster's config servers listen.
    pub config_port: u16,
    config_dir: Option<Utf8PathBuf>,
    run_dir: Utf8PathBuf,
    /// Mount point of the volume, which is the data directory too, as with Trove.
    pub data_dir: Utf8PathBuf,
    /// The agent's own directory.
    pub state_dir: Utf8PathBuf,
    /// Who runs the server.
    pub control: ServiceControlKind,
}

impl Layout {
    /// The layout `settings` ask for. Of `socket` the directory counts: the name of the socket has the port in it.
    pub fn new(settings: &Settings) -> Layout {
        let own = &settings.datastore;
        let run_dir = own.socket.as_deref().and_then(Utf8Path::parent).map(Utf8Path::to_owned);
        Layout {
            programs: PROGRAMS.iter().map(Utf8PathBuf::from).collect(),
            routers: ROUTERS.iter().map(Utf8PathBuf::from).collect(),
            config_port: own.configsvr_port,
            config_dir: own.config_dir.clone(),
            run_dir: run_dir.unwrap_or_else(|| "/run/mongodb".into()),
            data_dir: own.mount_point.clone().unwrap_or_else(|| MONGODB.mount_point.into()),
            state_dir: settings.state_dir.clone(),
            control: settings.service_control,
        }
    }

    /// Directory of the configuration.
    pub fn config_dir(&self) -> &Utf8Path {
        self.config_dir.as_deref().unwrap_or(Utf8Path::new("/etc"))
    }

    /// The configuration file the server starts from (Train's `CONFIG_CANDIDATES`; the second is of MongoDB's own packages).
    pub fn main_file(&self) -> Utf8PathBuf {
        let [debian, own] = ["mongodb.conf", "mongod.conf"].map(|name| self.config_dir().join(name));
        if debian.is_file() && !own.is_file() { debian } else { own }
    }

    /// The configuration file a query router starts from (Trove's element `ubuntu-xenial-mongodb`).
    pub fn router_file(&self) -> Utf8PathBuf {
        self.config_dir().join("mongos.conf")
    }

    /// Directory of the layers, as Trove's `OneFileOverrideStrategy` has it.
    pub fn override_dir(&self) -> Utf8PathBuf {
        self.config_dir().join("overrides")
    }

    /// The secret that members of a cluster know each other by (Trove's `MONGO_KEY_FILE`).
    pub fn key_file(&self) -> Utf8PathBuf {
        self.config_dir().join("mongo_key")
    }

    /// The administrator's credentials.
    pub fn credentials(&self) -> Utf8PathBuf {
        self.state_dir.join("os_mongo_admin_creds.json")
    }

    /// Directory of socket and process id.
    pub fn run_dir(&self) -> &Utf8Path {
        &self.run_dir
    }

    /// The server's socket.
    pub fn socket(&self, port: u16) -> Utf8PathBuf {
        self.run_dir.join(format!("mongodb-{port}.sock"))
    }

    /// The file the server's messages go to.
    pub fn error_log(&self) -> Utf8PathBuf {
        match self.control {
            ServiceControlKind::Process => self.state_dir.join("server.log"),
            _ => "/var/log/mongodb/mongod.log".into(),
        }
    }

    /// How to run the server without a service manager.
    pub fn server_command(&self) -> ServerCommand {
        self.command(&self.programs, self.main_file())
    }

    /// How to run a query router without one.
    pub(super) fn router_command(&self) -> ServerCommand {
        self.command(&self.routers, self.router_file())
    }

    fn command(&self, programs: &[Utf8PathBuf], file: Utf8PathBuf) -> ServerCommand {
        ServerCommand {
            programs: programs.to_vec(),
            args: vec!["--config".to_owned(), file.into_string()],
            user: MONGODB.owners[0].to_owned(),
            // It stays what it is started as.
            started_as_user: true,
            run_dirs: vec![self.run_dir.clone()],
            mounts: vec![self.config_dir().to_owned(), self.data_dir.clone()],
            log_file: self.error_log(),
            // Its main thread waits for the end, not for clients: nobody sees whether it serves.
            stop_signal: StopSignal::TerminateAnyTime,
        }
    }
}
