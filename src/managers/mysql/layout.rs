//! [`Layout`]: where this guest keeps what belongs to the server.

use camino::{Utf8Path, Utf8PathBuf};

use crate::config::{ServiceControlKind, Settings};
use crate::managers::Descriptor;
use crate::system::service::{ServerCommand, StopSignal};

/// Where distributions put the server.
const PROGRAMS: &[&str] = &["/usr/sbin/mariadbd", "/usr/sbin/mysqld", "/usr/libexec/mariadbd", "/usr/libexec/mysqld"];

/// Paths of one server. Debian and Ubuntu keep the configuration in `/etc/mysql`; the Red Hat family reads `/etc/my.cnf`.
/// Overrides are in `/etc/mysql/conf.d` everywhere, as with Trove.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Server programs, best first.
    pub programs: Vec<Utf8PathBuf>,
    /// The configuration file the server starts from.
    pub main_file: Utf8PathBuf,
    /// Directory of the override files.
    pub override_dir: Utf8PathBuf,
    /// The server's socket.
    pub socket: Utf8PathBuf,
    /// The server's process id file.
    pub pid_file: Utf8PathBuf,
    /// Mount point of the volume.
    pub mount_point: Utf8PathBuf,
    /// The data directory, on the volume.
    pub data_dir: Utf8PathBuf,
    /// File the server's own messages go to.
    pub error_log: Utf8PathBuf,
    /// True when the server must be told to write [`Self::error_log`]; otherwise it holds the server's standard error.
    pub sets_error_log: bool,
    /// The administrator's option file.
    pub credentials: Utf8PathBuf,
    /// The agent's own directory.
    pub state_dir: Utf8PathBuf,
}

impl Layout {
    /// The layout `settings` ask for.
    pub fn new(descriptor: &Descriptor, settings: &Settings) -> Layout {
        let own = &settings.datastore;
        let main_file = match &own.config_dir {
            Some(directory) => directory.join("my.cnf"),
            None if Utf8Path::new("/etc/redhat-release").exists() || Utf8Path::new("/etc/SUSE-brand").exists() => "/etc/my.cnf".into(),
            None => "/etc/mysql/my.cnf".into(),
        };
        let config_dir = own.config_dir.clone().unwrap_or_else(|| "/etc/mysql".into());
        let socket = own.socket.clone().unwrap_or_else(|| "/var/run/mysqld/mysqld.sock".into());
        let mount_point = own.mount_point.clone().unwrap_or_else(|| descriptor.mount_point.into());
        let run_dir = socket.parent().unwrap_or(Utf8Path::new("/")).to_owned();
        let supervised = settings.service_control == ServiceControlKind::Process;
        Layout {
            programs: PROGRAMS.iter().map(Utf8PathBuf::from).collect(),
            main_file,
            override_dir: config_dir.join("conf.d"),
            pid_file: run_dir.join("mysqld.pid"),
            socket,
            data_dir: data_dir(&mount_point),
            mount_point,
            error_log: if supervised { settings.state_dir.join("mysqld.log") } else { "/var/log/mysql/error.log".into() },
            sets_error_log: settings.service_control == ServiceControlKind::Systemd,
            credentials: settings.state_dir.join("os_admin.cnf"),
            state_dir: settings.state_dir.clone(),
        }
    }

    /// Directory of socket and process id.
    pub fn run_dir(&self) -> &Utf8Path {
        self.socket.parent().unwrap_or(Utf8Path::new("/"))
    }

    /// Directory of the main file: what is beside it, the server may read.
    pub fn config_dir(&self) -> &Utf8Path {
        self.main_file.parent().unwrap_or(Utf8Path::new("/"))
    }

    /// How to run the server without a service manager.
    pub fn server_command(&self, descriptor: &Descriptor) -> ServerCommand {
        let owner = descriptor.owners[0];
        ServerCommand {
            programs: self.programs.clone(),
            // The template of later releases leaves the account to whoever starts the server.
            args: vec![format!("--defaults-file={}", self.main_file), format!("--user={owner}")],
            user: owner.to_owned(),
            started_as_user: false,
            run_dirs: vec![self.run_dir().to_owned()],
            mounts: vec![self.config_dir().to_owned(), self.override_dir.clone(), self.mount_point.clone()],
            log_file: self.error_log.clone(),
            stop_signal: StopSignal::Terminate,
        }
    }
}

/// Trove's `<mount_point>/data`: the mount point itself holds `lost+found`.
pub(super) fn data_dir(mount_point: &Utf8Path) -> Utf8PathBuf {
    mount_point.join("data")
}
