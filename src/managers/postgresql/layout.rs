//! [`Layout`]: where this guest keeps what belongs to the server.

use camino::{Utf8Path, Utf8PathBuf};

use super::descriptor::POSTGRESQL;
use crate::config::{ServiceControlKind, Settings};
use crate::system::service::{ServerCommand, StopSignal};

/// Versions the agent looks for, newest first. Each has a directory of its own.
const VERSIONS: [&str; 11] = ["20", "19", "18", "17", "16", "15", "14", "13", "12", "11", "10"];
/// What [`Layout`] takes for the version while none is installed.
const USUAL: &str = "15";
/// Name of the one cluster, in Debian's words.
const CLUSTER: &str = "main";

/// Paths of one server. Debian and Ubuntu keep a version's programs in `/usr/lib/postgresql`, the packages of the PostgreSQL project for the Red Hat family in
/// `/usr/pgsql-15`. Which version there is, is known when its package is there.
#[derive(Debug, Clone)]
pub struct Layout {
    config_dir: Option<Utf8PathBuf>,
    socket_dir: Utf8PathBuf,
    /// Mount point of the volume.
    pub mount_point: Utf8PathBuf,
    /// The data directory, on the volume: Trove's `<mount_point>/data/pgdata`.
    pub data_dir: Utf8PathBuf,
    /// The administrator's password file.
    pub credentials: Utf8PathBuf,
    /// The agent's own directory.
    pub state_dir: Utf8PathBuf,
    /// Who runs the server.
    pub control: ServiceControlKind,
}

/// Where a version's programs may be.
pub(super) fn directories_of(version: &str) -> [Utf8PathBuf; 2] {
    [format!("/usr/lib/postgresql/{version}/bin").into(), format!("/usr/pgsql-{version}/bin").into()]
}

/// The newest version that is installed.
fn installed() -> Option<&'static str> {
    VERSIONS.into_iter().find(|version| directories_of(version).iter().any(|directory| directory.join("postgres").is_file()))
}

impl Layout {
    /// The layout `settings` ask for.
    pub fn new(settings: &Settings) -> Layout {
        let own = &settings.datastore;
        let mount_point = own.mount_point.clone().unwrap_or_else(|| POSTGRESQL.mount_point.into());
        let socket_dir = own.socket.as_deref().and_then(Utf8Path::parent).unwrap_or(Utf8Path::new("/var/run/postgresql"));
        Layout {
            config_dir: own.config_dir.clone(),
            socket_dir: socket_dir.to_owned(),
            data_dir: mount_point.join("data/pgdata"),
            mount_point,
            credentials: settings.state_dir.join("os_admin.pgpass"),
            state_dir: settings.state_dir.clone(),
            control: settings.service_control,
        }
    }

    /// Names of the unit, best first: Debian's of the version that is installed, the PostgreSQL project's for the Red Hat family, that family's own.
    pub fn units() -> Vec<String> {
        let of = |version: &str| match directories_of(version)[0].is_dir() {
            true => format!("postgresql@{version}-{CLUSTER}"),
            false => format!("postgresql-{version}"),
        };
        installed().map(of).into_iter().chain(["postgresql".to_owned()]).collect()
    }

    /// Packages that bring the server: those of the version that is installed, or the distribution's usual one.
    pub fn packages() -> Vec<String> {
        let of = |version: &str| match directories_of(version)[0].is_dir() {
            true => format!("postgresql-{version}"),
            false => format!("postgresql{version}-server"),
        };
        vec![installed().map_or_else(|| POSTGRESQL.packages[0].to_owned(), of)]
    }

    /// Programs that may be the server, best first.
    pub fn programs() -> Vec<Utf8PathBuf> {
        let versioned = VERSIONS.iter().flat_map(|version| directories_of(version)).map(|directory| directory.join("postgres"));
        versioned.chain(["/usr/bin/postgres".into()]).collect()
    }

    /// Directory of the configuration.
    pub fn config_dir(&self) -> Utf8PathBuf {
        let usual = || Utf8Path::new("/etc/postgresql").join(installed().unwrap_or(USUAL)).join(CLUSTER);
        self.config_dir.clone().unwrap_or_else(usual)
    }

    /// The configuration file the server starts from.
    pub fn main_file(&self) -> Utf8PathBuf {
        self.config_dir().join("postgresql.conf")
    }

    /// Directory of the layers, as Trove has it since Victoria.
    pub fn override_dir(&self) -> Utf8PathBuf {
        self.config_dir().join("conf.d")
    }

    /// Who may log in from where, and how.
    pub fn hba_file(&self) -> Utf8PathBuf {
        self.config_dir().join("pg_hba.conf")
    }

    /// Which account of the operating system may be which role.
    pub fn ident_file(&self) -> Utf8PathBuf {
        self.config_dir().join("pg_ident.conf")
    }

    /// Directory of the socket, whose name has the port in it, and of the process id.
    pub fn run_dir(&self) -> &Utf8Path {
        &self.socket_dir
    }

    /// The file Debian's unit looks for the process id in.
    pub fn pid_file(&self) -> Utf8PathBuf {
        self.socket_dir.join(format!("{}-{CLUSTER}.pid", installed().unwrap_or(USUAL)))
    }

    /// The file the server's messages go to.
    pub fn error_log(&self) -> Utf8PathBuf {
        match self.control {
            ServiceControlKind::Process => self.state_dir.join("server.log"),
            _ => format!("/var/log/postgresql/postgresql-{}-{CLUSTER}.log", installed().unwrap_or(USUAL)).into(),
        }
    }

    /// How to run the server without a service manager.
    pub fn server_command(&self) -> ServerCommand {
        ServerCommand {
            programs: Layout::programs(),
            args: vec!["-c".into(), format!("config_file={}", self.main_file())],
            user: POSTGRESQL.owners[0].to_owned(),
            started_as_user: true,
            run_dirs: vec![self.run_dir().to_owned()],
            mounts: vec![self.config_dir(), self.mount_point.clone()],
            log_file: self.error_log(),
            stop_signal: StopSignal::Interrupt,
        }
    }
}
