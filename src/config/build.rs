//! All sources to one [`Settings`], or to every mistake in them.

use std::num::NonZeroU64;

use camino::Utf8Path;

use super::broker::broker_settings;
use super::error::{ConfigError, ConfigErrors, Origin};
use super::lookup::{Layers, LoadedFile, Lookup, looks_like_credential};
use super::options::{DEFAULT, OPTIONS};
use super::reader::Reader;
use super::settings::{
    AccountSettings, BackupSettings, DatastoreSettings, GuestLogSettings, LogSettings, MetricsSettings, ServiceControlKind, Settings,
    VolumeSettings,
};
use super::sources::{Gathered, Sources};
use super::spec::DATASTORE;
use super::storage::storage_settings;
use super::words::split_words;
use crate::managers::registry::MANAGERS;
use crate::model::{Evidence, Release};

/// Name of the log in a `log_dir` given without a `log_file`.
const LOG_NAME: &str = "trove-guestagent.log";
/// How many keys of a file the message about a missing one lists.
const KEYS_LISTED: usize = 20;

impl Settings {
    /// Reads everything the agent is told at its start.
    ///
    /// # Errors
    /// Every mistake in it: files that cannot be read, malformed lines, values of the wrong type, references to unknown
    /// options, a missing `guest_id`, an unknown `datastore_manager`. Options this agent does not know are none: the file is a
    /// copy of the controller's.
    pub fn load(sources: &Sources) -> Result<Settings, ConfigErrors> {
        assemble(sources.read())
    }

    /// Reads one file from memory: no environment, no other files. `name` is what messages call it.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn from_text(name: &str, text: &str) -> Result<Settings, ConfigErrors> {
        let mut gathered = Gathered::default();
        gathered.text(Utf8Path::new(name), text.as_bytes());
        assemble(gathered)
    }
}

fn assemble(gathered: Gathered) -> Result<Settings, ConfigErrors> {
    let layers = &gathered.layers;
    // A mistake in it is reported when it is read again, below.
    let datastore = match Lookup::new(OPTIONS, layers, None).get(DEFAULT, "datastore_manager") {
        Ok(outcome) => Some(outcome.value.python_text()).filter(|name| !name.is_empty()),
        Err(_) => None,
    };
    let shown = datastore.clone().unwrap_or_else(|| DATASTORE.to_owned());
    let mut reader = Reader::new(Lookup::new(OPTIONS, layers, datastore), &shown);
    let settings = settings(&mut reader, &gathered);
    let Reader { errors: mistakes, outcomes, .. } = reader;
    let mut errors = gathered.errors;
    errors.extend(mistakes);
    errors.sort();
    errors.dedup();
    if errors.is_empty() { Ok(Settings { outcomes, ..settings }) } else { Err(ConfigErrors(errors)) }
}

fn settings(reader: &mut Reader<'_>, gathered: &Gathered) -> Settings {
    let (guest_id, datastore_manager) = required(reader, gathered);
    Settings {
        guest_id,
        datastore_manager,
        datastore_version: reader.text(DEFAULT, "datastore_version"),
        tenant_id: reader.text(DEFAULT, "tenant_id"),
        instance_rpc_encr_key: reader.secret(DEFAULT, "instance_rpc_encr_key"),
        // `None` and `builtin` are words of Trove's for nothing.
        tls_mode: reader.text(DEFAULT, "ssl_mode").and_then(|mode| mode.parse().ok()),
        control_exchange: reader.text_or_empty(DEFAULT, "control_exchange"),
        conductor_queue: reader.text_or_empty(DEFAULT, "conductor_queue"),
        report_interval: reader.seconds(DEFAULT, "report_interval"),
        controller_release: reader.word(DEFAULT, "controller_release"),
        release_evidence: release_evidence(&gathered.layers),
        rpc_ping_enabled: reader.flag(DEFAULT, "rpc_ping_enabled"),
        executor_pool: reader.number(DEFAULT, "executor_thread_pool_size"),
        service_control: reader.word(DEFAULT, "service_control").unwrap_or(ServiceControlKind::Systemd),
        state_dir: reader.path(DEFAULT, "state_dir").unwrap_or_default(),
        state_change_wait_time: reader.seconds(DEFAULT, "state_change_wait_time"),
        log: log_settings(reader),
        metrics: metrics_settings(reader),
        broker: broker_settings(reader),
        volume: volume_settings(reader),
        accounts: account_settings(reader),
        backup: backup_settings(reader),
        storage: storage_settings(reader),
        guest_log: guest_log_settings(reader),
        module_types: reader.list(DEFAULT, "module_types").unwrap_or_default(),
        datastore: datastore_settings(reader),
        outcomes: Vec::new(),
    }
}

/// `guest_id` and `datastore_manager`, without which there is no agent.
fn required(reader: &mut Reader<'_>, gathered: &Gathered) -> (String, String) {
    let mut read = |name: &str| {
        let count = reader.errors.len();
        let outcome = reader.outcome(DEFAULT, name);
        let text = outcome.value.python_text();
        if text.is_empty() && reader.errors.len() == count {
            let message = format!("[DEFAULT] {name} is not set; the controller writes it to guest_info.conf. {}", where_looked(gathered));
            reader.errors.push(ConfigError::new(Origin::Nowhere, message));
        }
        (text, outcome)
    };
    let (guest_id, _) = read("guest_id");
    let (manager, outcome) = read("datastore_manager");
    if !manager.is_empty() && !MANAGERS.contains(&manager.as_str()) {
        let hidden = outcome.secret || looks_like_credential(&manager);
        let shown = if hidden { "its value".to_owned() } else { format!("'{}'", manager.escape_debug()) };
        let message = format!("{shown} is not a datastore of this agent; it has {}", MANAGERS.join(", "));
        reader.mistake(outcome.origin, DEFAULT, "datastore_manager", &message);
    }
    (guest_id, manager)
}

/// Which files were read and what they have in `[DEFAULT]`, in a sentence.
fn where_looked(gathered: &Gathered) -> String {
    let mut places: Vec<String> = gathered.layers.files.iter().map(file_summary).collect();
    let empty = gathered.dirs.iter().filter(|dir| !gathered.layers.files.iter().any(|file| file.path.parent() == Some(dir)));
    places.extend(empty.map(|dir| format!("{dir} (no *.conf file could be read in it)")));
    if places.is_empty() {
        "No file was read; start the agent with --config-dir=/etc/trove/conf.d".to_owned()
    } else {
        format!("Looked in: {}", places.join("; "))
    }
}

fn file_summary(file: &LoadedFile) -> String {
    let mut keys: Vec<&str> = Vec::new();
    for entry in file.ini.entries.iter().filter(|entry| entry.section == "DEFAULT") {
        if !keys.contains(&entry.key.as_str()) {
            keys.push(&entry.key);
        }
    }
    let more = keys.len().saturating_sub(KEYS_LISTED);
    keys.truncate(KEYS_LISTED);
    let mut summary = if keys.is_empty() { "nothing in [DEFAULT]".to_owned() } else { format!("has {}", keys.join(", ")) };
    if more > 0 {
        summary.push_str(&format!(" and {more} more"));
    }
    if let Some(section) = file.ini.sections.iter().find(|name| *name != "DEFAULT" && name.eq_ignore_ascii_case("DEFAULT")) {
        summary.push_str(&format!(", and a section [{section}] that must be written [DEFAULT]"));
    }
    format!("{} ({summary})", file.path)
}

/// What the keys of the injected file say of the release that wrote it. The file is the one that names the guest, since its
/// name can be configured. A key that is absent says nothing: operators write such files too.
fn release_evidence(layers: &Layers) -> Option<Evidence> {
    let injected = layers.files.iter().rev().find(|file| file.ini.last(DEFAULT, "guest_id").is_some())?;
    let has = |keys: &[&str]| keys.iter().any(|key| injected.ini.last(DEFAULT, key).is_some());
    let release = if has(&["network_isolation", "ssl_mode", "replication_strategy", "datastore_registry_ext"]) {
        Release::Gazpacho
    } else if has(&["datastore_version"]) {
        Release::Zed
    } else if has(&["instance_rpc_encr_key"]) {
        Release::Train
    } else {
        return None;
    };
    Some(Evidence::at_least(release))
}

/// Mirrors `_get_log_file_path` of oslo_log/log.py.
fn log_settings(reader: &mut Reader<'_>) -> LogSettings {
    let dir = reader.path(DEFAULT, "log_dir");
    let file = reader.path(DEFAULT, "log_file");
    let file = match (dir, file) {
        (Some(dir), Some(file)) => Some(dir.join(file)),
        (Some(dir), None) => Some(dir.join(LOG_NAME)),
        (None, file) => file,
    };
    let mut flag = |name| reader.flag(DEFAULT, name);
    LogSettings {
        file,
        watch_file: flag("watch_log_file"),
        stderr: flag("use_stderr"),
        journal: flag("use_journal"),
        json: flag("use_json"),
        debug: flag("debug"),
    }
}

fn metrics_settings(reader: &mut Reader<'_>) -> MetricsSettings {
    let socket = reader.path(DEFAULT, "metrics_socket");
    let outcome = reader.outcome(DEFAULT, "metrics_listen");
    let text = outcome.value.python_text();
    let listen = match text.parse() {
        _ if text.is_empty() => None,
        Ok(address) => Some(address),
        Err(_) => {
            reader.mistake(outcome.origin, DEFAULT, "metrics_listen", "it is no address and port, as 127.0.0.1:9599 or [::1]:9599");
            None
        }
    };
    MetricsSettings { socket, listen }
}

fn volume_settings(reader: &mut Reader<'_>) -> VolumeSettings {
    let general = reader.path(DEFAULT, "device_path").unwrap_or_default();
    let options = reader.outcome(DEFAULT, "format_options");
    let format_options = split_words(&options.value.python_text()).unwrap_or_else(|reason| {
        reader.mistake(options.origin, DEFAULT, "format_options", &format!("it {reason}"));
        Vec::new()
    });
    VolumeSettings {
        device_path: reader.path(DATASTORE, "device_path").unwrap_or(general),
        fstype: reader.text_or_empty(DEFAULT, "volume_fstype"),
        format_options,
        format_timeout: reader.seconds(DEFAULT, "volume_format_timeout"),
        mount_options: reader.text_or_empty(DEFAULT, "mount_options"),
        num_tries: reader.number(DEFAULT, "num_tries"),
        readahead: reader.optional_number(DATASTORE, "readahead_size"),
    }
}

fn account_settings(reader: &mut Reader<'_>) -> AccountSettings {
    let lower = |names: Vec<String>| names.into_iter().map(|name| name.to_lowercase()).collect();
    let general = reader.number(DEFAULT, "default_password_length");
    AccountSettings {
        ignore_users: reader.list(DATASTORE, "ignore_users").map(lower),
        ignore_dbs: reader.list(DATASTORE, "ignore_dbs").map(lower),
        root_grant: reader.list(DEFAULT, "root_grant").unwrap_or_default(),
        root_grant_option: reader.flag(DEFAULT, "root_grant_option"),
        password_length: reader.optional_number(DATASTORE, "default_password_length").unwrap_or(general),
        hostname_require_valid_ip: reader.flag(DEFAULT, "hostname_require_valid_ip"),
    }
}

fn backup_settings(reader: &mut Reader<'_>) -> BackupSettings {
    BackupSettings {
        storage_strategy: reader.text_or_empty(DEFAULT, "storage_strategy"),
        container: reader.text_or_empty(DEFAULT, "backup_swift_container"),
        compress: reader.flag(DEFAULT, "backup_use_gzip_compression"),
        encrypt: reader.flag(DEFAULT, "backup_use_openssl_encryption"),
        aes_cbc_key: reader.secret(DEFAULT, "backup_aes_cbc_key"),
        chunk_size: reader.number(DEFAULT, "backup_chunk_size"),
        segment_max_size: reader.number(DEFAULT, "backup_segment_max_size"),
        rate_limit: NonZeroU64::new(reader.number(DEFAULT, "backup_rate_limit")),
        rate_limit_in_use: NonZeroU64::new(reader.number(DEFAULT, "backup_rate_limit_in_use")),
        spool_dir: reader.path(DEFAULT, "backup_spool_dir"),
        runner_options: reader.dict(DEFAULT, "backup_runner_options"),
        verify_checksum: reader.flag(DEFAULT, "verify_swift_checksum_on_restore"),
        drill: reader.flag(DEFAULT, "backup_drill"),
        drill_dir: reader.path(DEFAULT, "backup_drill_dir"),
        restore_timeout: reader.seconds(DEFAULT, "restore_usage_timeout"),
    }
}

fn guest_log_settings(reader: &mut Reader<'_>) -> GuestLogSettings {
    // Train's list has blanks where later ones have commas.
    let words = |names: Vec<String>| names.iter().flat_map(|names| names.split_whitespace()).map(str::to_lowercase).collect();
    GuestLogSettings {
        container: reader.text_or_empty(DEFAULT, "guest_log_container_name"),
        limit: reader.number(DEFAULT, "guest_log_limit"),
        expiry: reader.seconds(DEFAULT, "guest_log_expiry"),
        exposed: reader.list(DATASTORE, "guest_log_exposed_logs").map(words),
        long_query_time: reader.optional_number(DATASTORE, "guest_log_long_query_time"),
    }
}

/// The datastore's group wins over `[DEFAULT]`, as in `get_configuration_property` of trove/common/cfg.py.
fn datastore_settings(reader: &mut Reader<'_>) -> DatastoreSettings {
    let general = reader.path(DEFAULT, "mount_point");
    DatastoreSettings {
        mount_point: reader.path(DATASTORE, "mount_point").or(general),
        socket: reader.path(DATASTORE, "socket"),
        config_dir: reader.path(DATASTORE, "config_dir"),
        service_name: reader.text(DATASTORE, "service_name"),
        configsvr_port: reader.number(DATASTORE, "configsvr_port"),
        docker_image: reader.text(DATASTORE, "docker_image"),
        backup_strategy: reader.text(DATASTORE, "backup_strategy"),
        replication_strategy: reader.text(DATASTORE, "replication_strategy"),
        replication_class: reader.text(DEFAULT, "replication_strategy"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::LoginMethod;

    const GUEST: &str = "[DEFAULT]\nguest_id=g1\ndatastore_manager=mysql\n";

    fn load(rest: &str) -> Settings {
        Settings::from_text("guest_info.conf", &format!("{GUEST}{rest}")).unwrap()
    }

    fn mistakes(text: &str) -> Vec<String> {
        Settings::from_text("a.conf", text).unwrap_err().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_are_troves() {
        let settings = load("");
        assert_eq!(settings.control_exchange, "openstack");
        assert_eq!(settings.report_interval, Duration::from_secs(30));
        assert_eq!(settings.service_control, ServiceControlKind::Systemd);
        assert_eq!(settings.state_dir, "/var/lib/trove-guestagent");
        assert_eq!(settings.volume.format_options, ["-m", "5"]);
        assert_eq!(settings.volume.device_path, "/dev/vdb");
        assert_eq!(settings.accounts.root_grant, ["ALL"]);
        assert_eq!(settings.accounts.password_length, 36);
        assert!(settings.accounts.ignore_users.is_none());
        assert!(settings.datastore.mount_point.is_none());
        assert!(settings.release_evidence.is_none());
        assert!(settings.log.file.is_none());
    }

    #[test]
    fn defaults_of_the_broker_are_oslos() {
        let settings = load("");
        let broker = &settings.broker;
        assert_eq!((broker.hosts.len(), broker.virtual_host.as_str(), broker.durable), (1, "/", None));
        let host = broker.hosts.first().unwrap();
        assert_eq!(
            (host.host.as_str(), host.port, host.user.as_str(), host.password.expose_secret()),
            ("localhost", 5672, "guest", "guest")
        );
        assert_eq!(broker.reconnect_delay, Duration::from_secs(1));
        assert_eq!(broker.login_method, LoginMethod::AmqPlain);
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        let text = "[DEFAULT]\nguest_id = g\ndatastore_manager = oracle\nreport_interval = ten\nbroken\ndebug = maybe\n\
                    service_control = upstart\nlog_dir = $nowhere/x\ntransport_url = rabbit://u:p@h:port/\nformat_options = 'a' 'b\n\
                    [oslo_messaging_rabbit]\nssl = 2\nrabbit_port = 70000\n[nova]\nanything = goes\n";
        let mistakes = mistakes(text);
        let lines: Vec<&str> = mistakes.iter().map(|text| text.split_whitespace().next().unwrap()).collect();
        assert_eq!(lines, (3..=10).chain(12..=13).map(|line| format!("a.conf:{line}:")).collect::<Vec<_>>(), "{mistakes:#?}");
    }

    #[test]
    fn a_missing_guest_id_says_where_it_was_looked_for() {
        let text = "[default]\nguest_id = g\n[DEFAULT]\ndatastore_manager = mysql\n";
        let mistakes = mistakes(text);
        let [mistake] = mistakes.as_slice() else { panic!("{mistakes:?}") };
        assert!(mistake.contains("guest_id is not set"), "{mistake}");
        assert!(mistake.contains("a.conf (has datastore_manager, and a section [default] that must be written [DEFAULT])"), "{mistake}");
    }

    #[test]
    fn no_mistake_shows_a_credential() {
        for line in [
            "transport_url = rabbit://u:hunter2@h:x/",
            "transport_url = rabbit://u:a$hunter2@h/",
            "transport_url = rabbit://u:a?b=hunter2@h/",
            "transport_url = rabbit://u:hunter2/@h/",
            "transport_url = hunter2://u@h/",
            "transport_url = rabbit://u:p@h/?ssl=hunter2",
            "instance_rpc_encr_key = $hunter2",
            "hunter2",
            "a = b\n\n hunter2",
            "secret_thing = hunter2\nreport_interval = $secret_thing",
            "transport_url = rabbit://u:hunter2@h/\nreport_interval = $transport_url",
            "report_interval = rabbit://u:hunter2@h/",
            "secret_thing = hunter2\ndatastore_manager = $secret_thing",
            "[oslo_messaging_rabbit]\nrabbit_password = $hunter2",
            "[oslo_messaging_rabbit]\nrabbit_hosts = u:hunter2@h",
        ] {
            let found = mistakes(&format!("{GUEST}{line}\n"));
            assert!(!found.is_empty(), "{line}");
            assert!(!found.concat().contains("hunter2"), "{line}: {found:?}");
        }
    }

    #[test]
    fn nothing_that_is_printed_shows_a_credential() {
        let settings = load(
            "instance_rpc_encr_key = hunter2\ntransport_url = rabbit://u:hunter2@h/?rabbit_password=hunter2\nbackup_aes_cbc_key = hunter2\n\
             tenant_id = $transport_url\n[oslo_messaging_rabbit]\nrabbit_password = hunter2\n",
        );
        assert_eq!(settings.instance_rpc_encr_key.as_ref().unwrap().expose_secret(), "hunter2");
        let printed = settings.describe().join("\n");
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("[DEFAULT] transport_url = ***  (guest_info.conf:5)"), "{printed}");
        assert!(printed.contains("[DEFAULT] report_interval = 30  (default)"), "{printed}");
        assert!(!format!("{:?}", settings.broker).contains("hunter2"));
    }

    #[test]
    fn legacy_broker_options_count_in_both_groups() {
        let settings = load(
            "rabbit_host = h1\nrabbit_userid = u\nrabbit_password = p%40\nrabbit_use_ssl = yes\nkombu_ssl_ca_certs = /ca\nrabbit_durable_queues = on\n\
             [oslo_messaging_rabbit]\nrabbit_host = h2\nrabbit_virtual_host = v\n",
        );
        let host = settings.broker.hosts.first().unwrap();
        assert_eq!((host.host.as_str(), host.user.as_str(), host.password.expose_secret()), ("h2", "u", "p%40"));
        assert_eq!(settings.broker.virtual_host, "v");
        assert_eq!(settings.broker.durable, Some(true));
        assert_eq!(settings.broker.tls.unwrap().ca_file.unwrap(), "/ca");
    }

    #[test]
    fn the_query_of_the_url_wins_over_the_group() {
        let settings = load(
            "transport_url = kombu://a:b@h1,h2:1/%2Ft?ssl=1&rabbit_qos_prefetch_count=7&rabbit_quorum_queue=true&heartbeat_rate=2\n\
             [oslo_messaging_rabbit]\nssl = 0\nrabbit_qos_prefetch_count = 3\namqp_durable_queues = false\n",
        );
        let broker = settings.broker;
        assert_eq!(broker.virtual_host, "/t");
        assert_eq!(broker.hosts.iter().map(|host| (host.user.as_str(), host.port)).collect::<Vec<_>>(), [("a", 5672), ("guest", 1)]);
        assert!(broker.tls.is_some());
        assert_eq!((broker.prefetch, broker.durable), (7, Some(true)));
    }

    #[test]
    fn virtual_hosts_follow_oslo() {
        for (path, expected) in [("", "/"), ("/", "/"), ("//", "/"), ("/a", "a"), ("//a", "/a"), ("/a%2Fb", "a/b")] {
            let settings = load(&format!("transport_url = rabbit://u:p@h{path}\n"));
            assert_eq!(settings.broker.virtual_host, expected, "{path}");
        }
    }

    #[test]
    fn the_group_of_the_datastore_wins() {
        let settings = load(
            "mount_point = /general\ndevice_path = /dev/vdz\nignore_users = Nobody\nignore_dbs = x\ndefault_password_length = 20\n\
             [MySQL]\nmount_point = /mine\nignore_users = os_admin, ROOT\nsocket = /s\n",
        );
        assert_eq!(settings.datastore.mount_point.unwrap(), "/mine");
        assert_eq!(settings.datastore.socket.unwrap(), "/s");
        assert_eq!(settings.volume.device_path, "/dev/vdz");
        assert_eq!(settings.accounts.ignore_users.unwrap(), ["os_admin", "root"]);
        assert_eq!(settings.accounts.ignore_dbs.unwrap(), ["x"]);
        assert_eq!(settings.accounts.password_length, 20);
    }

    #[test]
    fn keys_of_the_injected_file_are_evidence() {
        for (keys, release) in [
            ("network_isolation=True\n", Some(Release::Gazpacho)),
            ("ssl_mode=None\ndatastore_version=8\n", Some(Release::Gazpacho)),
            ("datastore_version=8\ninstance_rpc_encr_key=k\n", Some(Release::Zed)),
            ("instance_rpc_encr_key=k\n", Some(Release::Train)),
            ("tenant_id=t\n[mysql]\nreplication_strategy=x\n", None),
        ] {
            assert_eq!(load(keys).release_evidence, release.map(Evidence::at_least), "{keys}");
        }
    }

    #[test]
    fn logs_go_where_oslo_log_puts_them() {
        for (text, path) in [
            ("log_dir = /l\n", Some("/l/trove-guestagent.log")),
            ("log_dir = /l\nlogfile = f\n", Some("/l/f")),
            ("log_dir = /l\nlog_file = /f\n", Some("/f")),
            ("log_file = f\nlog_dir =\n", Some("f")),
        ] {
            assert_eq!(load(text).log.file.as_deref(), path.map(Utf8Path::new), "{text}");
        }
    }

    #[test]
    fn references_that_multiply_are_a_mistake_and_not_the_end_of_memory_time_or_stack() {
        let chain = |count: usize, line: fn(usize) -> String| (0..count).map(|index| format!("{}\n", line(index))).collect::<String>();
        let doubling = chain(60, |index| format!("x{index} = ab$x{0}$x{0}", index + 1)) + "x60 =\n";
        let growing =
            chain(20, |index| format!("x{index} = {}", format!("$x{}", index + 1).repeat(30))) + &format!("x20 = {}\n", "y".repeat(4096));
        let deep = chain(20_000, |index| format!("x{index} = $x{}", index + 1)) + "x20000 =\n";
        for rest in [doubling, growing, deep] {
            let error = Settings::from_text("a.conf", &format!("{GUEST}tenant_id = $x0\n{rest}")).unwrap_err().to_string();
            assert!(error.contains("[DEFAULT] tenant_id refers to 'x0'"), "{error}");
        }
        let usual = chain(20, |index| format!("x{index} = $x{}", index + 1)) + "x20 = t\n";
        assert_eq!(load(&format!("tenant_id = $x0\n{usual}")).tenant_id.as_deref(), Some("t"));
    }

    #[test]
    fn blank_release_is_inferred_and_others_are_names() {
        assert_eq!(load("controller_release =\n").controller_release, None);
        assert_eq!(load("controller_release = 2026.1\n").controller_release, Some(Release::Gazpacho));
        assert_eq!(load("controller_release = Kilo\n").controller_release, Some(Release::Kilo));
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "(?s).{0,120}") {
            let _outcome = Settings::from_text("a.conf", &format!("{GUEST}{text}"));
        }
    }
}
