//! [`Settings`]: everything the agent was told, checked. Option names and defaults are Trove's and oslo.messaging's
//! (trove/common/cfg.py; oslo_messaging/_drivers/impl_rabbit.py).

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use camino::Utf8PathBuf;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use super::error::Origin;
use crate::model::{Evidence, Release};

/// The agent's whole configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `guest_id`: the instance's id, and the name of its queue.
    pub guest_id: String,
    /// `datastore_manager`.
    pub datastore_manager: String,
    /// `datastore_version` (Zed and later write it into `guest_info.conf`).
    pub datastore_version: Option<String>,
    /// `tenant_id`.
    pub tenant_id: Option<String>,
    /// `instance_rpc_encr_key`; when set, plaintext is refused.
    pub instance_rpc_encr_key: Option<SecretString>,
    /// `ssl_mode`: what was asked for of the database's TLS.
    pub tls_mode: Option<TlsMode>,
    /// `control_exchange`.
    pub control_exchange: String,
    /// `conductor_queue`.
    pub conductor_queue: String,
    /// `report_interval`.
    pub report_interval: Duration,
    /// `controller_release`, when set: no inference then.
    pub controller_release: Option<Release>,
    /// What the keys of `guest_info.conf` say of the controller's release.
    pub release_evidence: Option<Evidence>,
    /// `rpc_ping_enabled`: answer `oslo_rpc_server_ping`.
    pub rpc_ping_enabled: bool,
    /// `executor_thread_pool_size`: requests in flight.
    pub executor_pool: usize,
    /// `service_control`.
    pub service_control: ServiceControlKind,
    /// `state_dir`.
    pub state_dir: Utf8PathBuf,
    /// `state_change_wait_time`: how long the database may take to start or stop.
    pub state_change_wait_time: Duration,
    /// `log_dir`, `log_file`, `debug`.
    pub log: LogSettings,
    /// `metrics_socket`, `metrics_listen`.
    pub metrics: MetricsSettings,
    /// The message broker.
    pub broker: BrokerSettings,
    /// The data volume.
    pub volume: VolumeSettings,
    /// Rules about accounts.
    pub accounts: AccountSettings,
    /// Backups, as far as no request says otherwise.
    pub backup: BackupSettings,
    /// Where they go.
    pub storage: StorageSettings,
    /// Published logs.
    pub guest_log: GuestLogSettings,
    /// `module_types`.
    pub module_types: Vec<String>,
    /// The group named like `datastore_manager`.
    pub datastore: DatastoreSettings,
    /// What every option came to, and why; see [`Settings::describe`].
    pub outcomes: Vec<OptionOutcome>,
}

/// What one option came to.
#[derive(Debug, Clone)]
pub struct OptionOutcome {
    /// Group and name, as in `[oslo_messaging_rabbit] ssl`.
    pub option: String,
    /// The value in the words of a file; `***` for a credential.
    pub shown: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Where metrics are served.
#[derive(Debug, Clone, Default)]
pub struct MetricsSettings {
    /// `metrics_socket`.
    pub socket: Option<Utf8PathBuf>,
    /// `metrics_listen`.
    pub listen: Option<SocketAddr>,
}

/// Where log lines go.
#[derive(Debug, Clone, Default)]
pub struct LogSettings {
    /// `log_file` (joined to `log_dir` when relative). Without it and without a journal, standard error.
    pub file: Option<Utf8PathBuf>,
    /// `watch_log_file`: another file at its path is noticed.
    pub watch_file: bool,
    /// `use_stderr`: standard error, too.
    pub stderr: bool,
    /// `use_journal`: systemd's journal by its own protocol, too.
    pub journal: bool,
    /// `use_json`: lines of JSON.
    pub json: bool,
    /// `debug`.
    pub debug: bool,
}

/// `ssl_mode`, as 2026.1 writes it into `guest_info.conf` (trove/common/ssl.py).
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, Serialize, Deserialize)]
#[strum(serialize_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Clients may use TLS.
    Basic,
    /// Clients must.
    Enforced,
    /// And have certificates of their own.
    Mtls,
}

/// `service_control`: who starts and stops the database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum ServiceControlKind {
    /// The guest's systemd.
    Systemd,
    /// A container on a local engine.
    Docker,
    /// The agent itself.
    Process,
}

/// One broker of `transport_url` (or of the legacy `rabbit_host(s)`).
#[derive(Debug, Clone)]
pub struct BrokerHost {
    /// Name or address, without brackets for IPv6.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User, decoded.
    pub user: String,
    /// Password, decoded.
    pub password: SecretString,
}

/// `[oslo_messaging_rabbit]` and `transport_url`.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// Brokers in the order given; at least one.
    pub hosts: Vec<BrokerHost>,
    /// Virtual host.
    pub virtual_host: String,
    /// TLS, when `ssl` is on.
    pub tls: Option<TlsSettings>,
    /// `rabbit_login_method`.
    pub login_method: LoginMethod,
    /// `heartbeat_timeout_threshold`; zero switches heartbeats off.
    pub heartbeat: Duration,
    /// `amqp_durable_queues` or `rabbit_quorum_queue`: D of the reference; `None` when the guest was not told.
    pub durable: Option<bool>,
    /// `amqp_auto_delete`; `None` when the guest was not told.
    pub auto_delete: Option<bool>,
    /// `rabbit_ha_queues`.
    pub ha_queues: bool,
    /// `rabbit_quorum_queue`; `None` when the guest was not told.
    pub quorum: Option<bool>,
    /// Limits of quorum queues.
    pub quorum_limits: QuorumSettings,
    /// `rabbit_qos_prefetch_count`; zero is unlimited.
    pub prefetch: u16,
    /// `enable_cancel_on_failover`.
    pub cancel_on_failover: bool,
    /// `kombu_reconnect_delay`.
    pub reconnect_delay: Duration,
    /// `kombu_reconnect_splay`: up to so much more, at random.
    pub reconnect_splay: Duration,
    /// `kombu_failover_strategy`.
    pub failover: FailoverStrategy,
    /// `rabbit_retry_interval`.
    pub retry_interval: Duration,
    /// `rabbit_retry_backoff`.
    pub retry_backoff: Duration,
    /// `rabbit_interval_max`.
    pub interval_max: Duration,
    /// `kombu_missing_consumer_retry_timeout`.
    pub missing_consumer_retry_timeout: Duration,
}

/// `kombu_failover_strategy`: which broker comes after one that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "kebab-case")]
pub enum FailoverStrategy {
    /// The next one of the list.
    RoundRobin,
    /// Any.
    Shuffle,
}

/// SASL mechanism of `rabbit_login_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString)]
#[strum(ascii_case_insensitive)]
pub enum LoginMethod {
    /// The broker's own, oslo's default.
    #[strum(serialize = "AMQPLAIN")]
    AmqPlain,
    /// SASL PLAIN.
    #[strum(serialize = "PLAIN")]
    Plain,
    /// By client certificate.
    #[strum(serialize = "EXTERNAL")]
    External,
}

/// TLS towards the broker.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// `ssl_ca_file`: the broker's certificate is verified against it. Trove's agent verifies nothing when it is absent.
    pub ca_file: Option<Utf8PathBuf>,
    /// `ssl_enforce_hostname_verification`: whether the certificate must name the broker. Counts with `ca_file` only.
    pub verify_hostname: bool,
    /// `ssl_version`: the one version of TLS to speak; negotiated when absent.
    pub version: Option<TlsVersion>,
    /// `ssl_cert_file`.
    pub cert_file: Option<Utf8PathBuf>,
    /// `ssl_key_file`.
    pub key_file: Option<Utf8PathBuf>,
}

/// `ssl_version`, in oslo.messaging's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString)]
pub enum TlsVersion {
    /// TLS 1.0.
    #[strum(serialize = "tlsv1")]
    Tls1,
    /// TLS 1.1.
    #[strum(serialize = "tlsv1_1")]
    Tls11,
    /// TLS 1.2.
    #[strum(serialize = "tlsv1_2")]
    Tls12,
}

/// Arguments of a quorum queue; zeros are omitted.
#[derive(Debug, Clone, Copy, Default)]
pub struct QuorumSettings {
    /// `rabbit_quorum_delivery_limit`.
    pub delivery_limit: u32,
    /// `rabbit_quorum_max_memory_length`.
    pub max_memory_length: u32,
    /// `rabbit_quorum_max_memory_bytes`.
    pub max_memory_bytes: u32,
}

/// The data volume: what Trove's `volume_*` options say.
#[derive(Debug, Clone)]
pub struct VolumeSettings {
    /// `device_path`, used when a request names none.
    pub device_path: Utf8PathBuf,
    /// `volume_fstype`.
    pub fstype: String,
    /// `format_options`, split like a shell would.
    pub format_options: Vec<String>,
    /// `volume_format_timeout`.
    pub format_timeout: Duration,
    /// `mount_options`.
    pub mount_options: String,
    /// `num_tries`: attempts to see the device.
    pub num_tries: u32,
    /// `readahead_size`, in sectors of 512 bytes; the kernel's own when `None`.
    pub readahead: Option<u32>,
}

/// Rules about accounts and databases.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// `ignore_users`, lower case: reserved, and never listed. `None` leaves the datastore's own list.
    pub ignore_users: Option<Vec<String>>,
    /// `ignore_dbs`, likewise.
    pub ignore_dbs: Option<Vec<String>>,
    /// `root_grant`: privileges of root.
    pub root_grant: Vec<String>,
    /// `root_grant_option`.
    pub root_grant_option: bool,
    /// `default_password_length`.
    pub password_length: usize,
    /// `hostname_require_valid_ip`.
    pub hostname_require_valid_ip: bool,
}

#[cfg(test)]
impl AccountSettings {
    /// Those of a guest whose configuration says nothing of accounts.
    pub(crate) fn unset() -> Self {
        AccountSettings {
            ignore_users: None,
            ignore_dbs: None,
            root_grant: Vec::new(),
            root_grant_option: true,
            password_length: 36,
            hostname_require_valid_ip: true,
        }
    }
}

/// The datastore's own group, such as `[mysql]`.
#[derive(Debug, Clone)]
pub struct DatastoreSettings {
    /// `mount_point`; the datastore's default when absent.
    pub mount_point: Option<Utf8PathBuf>,
    /// `socket`: the server's Unix socket, when it is not where the datastore's descriptor says (`docker`, `process`).
    pub socket: Option<Utf8PathBuf>,
    /// `config_dir`: directory of the server's configuration (`/etc/mysql`), likewise.
    pub config_dir: Option<Utf8PathBuf>,
    /// `service_name`: systemd unit or container, when it is not one of the descriptor's candidates.
    pub service_name: Option<String>,
    /// `configsvr_port`: where the config servers of a cluster listen (MongoDB).
    pub configsvr_port: u16,
    /// `docker_image`: image of the container to create when there is none.
    pub docker_image: Option<String>,
    /// `backup_strategy`; the datastore's default when absent.
    pub backup_strategy: Option<String>,
    /// `replication_strategy` of the group: the name replicas and sources must agree on.
    pub replication_strategy: Option<String>,
    /// `[DEFAULT] replication_strategy` (2026.1): dotted path of the Python class the controller means.
    pub replication_class: Option<String>,
}

/// `backup_*` and `storage_strategy`.
#[derive(Debug, Clone)]
pub struct BackupSettings {
    /// `storage_strategy`.
    pub storage_strategy: String,
    /// `backup_swift_container`.
    pub container: String,
    /// `backup_use_gzip_compression`.
    pub compress: bool,
    /// `backup_use_openssl_encryption`.
    pub encrypt: bool,
    /// `backup_aes_cbc_key`. When absent, Kilo and Train meant [`BackupSettings::PUBLIC_KEY`], later releases no encryption.
    pub aes_cbc_key: Option<SecretString>,
    /// `backup_chunk_size`, in bytes.
    pub chunk_size: u64,
    /// `backup_segment_max_size`, in bytes.
    pub segment_max_size: u64,
    /// `backup_rate_limit`, bytes of content a second; none for 0.
    pub rate_limit: Option<NonZeroU64>,
    /// `backup_rate_limit_in_use`: likewise, while the database has clients at work.
    pub rate_limit_in_use: Option<NonZeroU64>,
    /// `backup_spool_dir`: where a segment is kept until it is stored.
    pub spool_dir: Option<Utf8PathBuf>,
    /// `backup_runner_options`: extra options of a backup tool, by strategy.
    pub runner_options: Vec<(String, String)>,
    /// `verify_swift_checksum_on_restore`.
    pub verify_checksum: bool,
    /// `backup_drill`: each backup is restored and checked before it counts.
    pub drill: bool,
    /// `backup_drill_dir`.
    pub drill_dir: Option<Utf8PathBuf>,
    /// `restore_usage_timeout`.
    pub restore_timeout: Duration,
}

impl BackupSettings {
    /// Default of `backup_aes_cbc_key` in Kilo and Train: a text, not a secret.
    pub const PUBLIC_KEY: &'static str = "default_aes_cbc_key";
}

/// What is needed to reach an object store.
#[derive(Debug, Clone)]
pub struct StorageSettings {
    /// `swift_url`: ends in `AUTH_`, the tenant follows.
    pub swift_url: Option<String>,
    /// `swift_service_type`: type in a service catalog.
    pub service_type: String,
    /// `swift_endpoint_type`: `publicURL`, `internalURL`, or `public`, `internal`.
    pub endpoint_type: String,
    /// `[service_credentials] region_name`.
    pub region: Option<String>,
    /// `[service_credentials] auth_url`.
    pub auth_url: Option<String>,
    /// `swift_api_insecure`: certificates of Swift are not verified.
    pub insecure: bool,
    /// `swift_idle_timeout`.
    pub idle_timeout: Duration,
    /// `backup_manifest`; the controller's release decides when absent.
    pub manifest: Option<ManifestKind>,
    /// `[backup_credentials]`, when `auth_url` is set.
    pub credentials: Option<CredentialSettings>,
    /// `[backup_credentials] cafile`.
    pub ca_file: Option<Utf8PathBuf>,
    /// `backup_local_dir`.
    pub local_dir: Option<Utf8PathBuf>,
}

/// `backup_manifest`: how segments become one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum ManifestKind {
    /// Static large object: a list of segments.
    Slo,
    /// Dynamic large object: every segment with a prefix.
    Dlo,
}

/// `[backup_credentials]`: an account of Keystone.
#[derive(Debug, Clone)]
pub struct CredentialSettings {
    /// `auth_url`.
    pub auth_url: String,
    /// Who.
    pub identity: Identity,
    /// `insecure`: the certificate of Keystone is not verified.
    pub insecure: bool,
    /// `own_account`: whose Swift account is used.
    pub own_account: bool,
}

/// How to prove to Keystone who one is.
#[derive(Debug, Clone)]
pub enum Identity {
    /// User and password, in a project.
    Password {
        /// `username`.
        user: String,
        /// `password`.
        password: SecretString,
        /// `user_domain_name`.
        user_domain: String,
        /// `project_name`.
        project: String,
        /// `project_domain_name`.
        project_domain: String,
    },
    /// Application credential, which has a project of its own.
    ApplicationCredential {
        /// `application_credential_id`.
        id: String,
        /// `application_credential_secret`.
        secret: SecretString,
    },
}

/// `guest_log_*`.
#[derive(Debug, Clone)]
pub struct GuestLogSettings {
    /// `guest_log_container_name`.
    pub container: String,
    /// `guest_log_limit`: bytes of one published piece.
    pub limit: u64,
    /// `guest_log_expiry`.
    pub expiry: Duration,
    /// `guest_log_exposed_logs` of the datastore's group, in lower case.
    pub exposed: Option<Vec<String>>,
    /// `guest_log_long_query_time` of the datastore's group, in milliseconds.
    pub long_query_time: Option<i64>,
}

impl Settings {
    /// One line per option: `[group] name = value  (file:line, environment or default)`, for `--check-config`. Credentials are `***`.
    pub fn describe(&self) -> Vec<String> {
        self.outcomes.iter().map(|outcome| format!("{} = {}  ({})", outcome.option, outcome.shown, outcome.origin)).collect()
    }
}
