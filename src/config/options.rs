//! The table of every option the agent reads. `docs/configuration.md` is generated from it (a test sees to that).
//!
//! Names and defaults are Trove's (trove/common/cfg.py) and oslo.messaging's, of the newest release where releases differ.

use super::spec::{DATASTORE, OptionSpec};
use super::value::Kind::{Bool, Choice, Dict, Float, Int, List, Path, Text};

/// Group of Trove's own options.
pub(super) const DEFAULT: &str = "DEFAULT";
/// Group of Trove's own account, of which the guest needs little.
pub(super) const SERVICE_CREDENTIALS: &str = "service_credentials";
/// Group of the account backups are stored with, if not the caller's.
pub(super) const BACKUP_CREDENTIALS: &str = "backup_credentials";
/// Group of the broker's options.
pub(super) const RABBIT: &str = "oslo_messaging_rabbit";

/// Datastores whose lists of reserved names may also stand in `[DEFAULT]` (Trove's deprecated place; the others ignore it there).
const LISTS_IN_DEFAULT: &[&str] = &["mysql", "percona", "mariadb", "couchdb"];

/// A week: more than any wait of the agent should be.
const LONGEST_WAIT: i64 = 604_800;
const WAIT: super::value::Kind = Int(0, LONGEST_WAIT);

const fn trove(name: &'static str, kind: super::value::Kind) -> OptionSpec {
    OptionSpec::new(DEFAULT, name, kind)
}

const fn rabbit(name: &'static str, kind: super::value::Kind) -> OptionSpec {
    OptionSpec::new(RABBIT, name, kind)
}

const fn credential(name: &'static str, kind: super::value::Kind) -> OptionSpec {
    OptionSpec::new(BACKUP_CREDENTIALS, name, kind)
}

const fn datastore(name: &'static str, kind: super::value::Kind) -> OptionSpec {
    OptionSpec::new(DATASTORE, name, kind)
}

/// Every option.
pub const OPTIONS: &[OptionSpec] = &[
    trove("guest_id", Text).doc("K T Z M", "Id of the instance; names the queue. Required."),
    trove("datastore_manager", Text).doc("K T Z M", "Which datastore this guest runs. Required."),
    trove("datastore_version", Text).doc("Z M", "Version of the datastore the controller asked for."),
    trove("tenant_id", Text).doc("K T Z M", "Project the instance belongs to."),
    trove("instance_rpc_encr_key", Text)
        .secret()
        .doc("T Z M", "Key that messages of this guest are encrypted with. When set, plain messages are refused."),
    trove("ssl_mode", Text).doc(
        "M",
        "TLS of the database: `basic`, `enforced` or `mtls`; anything else means that nobody asked for it. A source offers TLS to its replicas then.",
    ),
    trove("transport_url", Text).default("rabbit://").secret().doc(
        "K T Z M",
        "Brokers: `rabbit://user:password@host:port,.../vhost?option=value`. Write `% / ? # @ : ,` in a user or password as `%25` and so on, \
         and `$` as `$$`.",
    ),
    trove("control_exchange", Text).default("openstack").doc("K T Z M", "Exchange of controller and guests; Trove's own files say `trove`."),
    trove("conductor_queue", Text).default("trove-conductor").doc("K T Z M", "Queue of the conductor."),
    trove("report_interval", Int(1, LONGEST_WAIT)).default("30").doc("K T Z M", "Seconds between heartbeats (Kilo: 10)."),
    trove("controller_release", Choice(&["kilo", "train", "zed", "2026.1", ""]))
        .doc("own", "Release of the controller; inferred when empty. `train` means Rocky to Victoria, `zed` Wallaby to 2024.2."),
    trove("rpc_ping_enabled", Bool).default("false").doc("T Z M", "Answer `oslo_rpc_server_ping`."),
    trove("executor_thread_pool_size", Int(1, 4096))
        .default("64")
        .aliases(&[(DEFAULT, "rpc_thread_pool_size")])
        .doc("K T Z M", "Requests in flight."),
    trove("service_control", Choice(&["systemd", "docker", "process"]))
        .default("systemd")
        .doc("own", "Who starts and stops the database: the guest's systemd, a container engine, or the agent itself."),
    trove("state_dir", Path).default("/var/lib/trove-guestagent").doc("own", "Folder of the agent's journal and markers."),
    trove("state_change_wait_time", WAIT).default("180").doc("K T Z M", "Seconds the database may take to start or stop."),
    trove("debug", Bool).default("false").doc("K T Z M", "Log details."),
    trove("log_dir", Path)
        .aliases(&[(DEFAULT, "logdir")])
        .doc("K T Z M", "Folder of the log. Alone, the log is `trove-guestagent.log` in it."),
    trove("log_file", Path)
        .aliases(&[(DEFAULT, "logfile")])
        .doc("K T Z M", "File of the log, in `log_dir` unless absolute. Without both, standard error. SIGHUP has it opened anew."),
    trove("watch_log_file", Bool).default("false").doc("K T Z", "Notice when the log's file is renamed or removed (logrotate), and begin another."),
    trove("use_stderr", Bool).default("false").doc("K T Z M", "Log to standard error, beside the file or the journal."),
    trove("use_journal", Bool).default("false").doc("T Z M", "Log to systemd's journal by its own protocol, with the request's ids as fields."),
    trove("use_json", Bool).default("false").doc("T Z M", "Log in JSON, one document a line, with the names of oslo.log's `JSONFormatter`."),
    trove("metrics_socket", Path)
        .default("$state_dir/metrics.sock")
        .doc("own", "Unix socket on which metrics are served over HTTP, for Prometheus; root's alone. Empty: none."),
    trove("metrics_listen", Text).doc("own", "Address and port on which metrics are served over TCP, too, to whoever asks (`127.0.0.1:9599`)."),
    trove("mount_point", Path).doc("own", "Like `mount_point` of the datastore, for any datastore."),
    trove("device_path", Path).default("/dev/vdb").doc("K T Z M", "Block device of the data volume."),
    trove("volume_fstype", Text).default("ext4").doc("K T Z M", "File system of the data volume (Kilo and Train: ext3)."),
    trove("format_options", Text).default("-m 5").doc("K T Z M", "Options for making the file system."),
    trove("volume_format_timeout", WAIT).default("120").doc("K T Z M", "Seconds making the file system may take."),
    trove("mount_options", Text).default("defaults,noatime").doc("K T Z M", "Options for mounting the data volume."),
    trove("num_tries", Int(1, 1000)).default("3").doc("K T Z M", "Attempts to see the block device."),
    trove("replication_strategy", Text).doc("M", "Class the controller wants replicas to follow with (`guest_info.conf`)."),
    trove("root_grant", List).default("ALL").doc("K T Z M", "Privileges of root, once enabled."),
    trove("root_grant_option", Bool).default("true").doc("K T Z M", "Whether root may grant."),
    trove("default_password_length", Int(1, 1024)).default("36").doc("K", "Length of passwords the agent makes."),
    trove("hostname_require_valid_ip", Bool)
        .default("true")
        .aliases(&[(DEFAULT, "hostname_require_ipv4")])
        .doc("K T Z M", "Whether the host of a user must be an address."),
    trove("storage_strategy", Text).default("swift").doc("K T Z M", "Where backups go: `swift` (Kilo and Train: `SwiftStorage`)."),
    trove("backup_swift_container", Text).default("database_backups").doc("K T Z M", "Container of backups, when a request names none."),
    trove("backup_use_gzip_compression", Bool).default("true").doc("K T", "Compress backups."),
    trove("backup_use_openssl_encryption", Bool).default("true").doc("K T", "Encrypt backups, when there is a key."),
    trove("backup_aes_cbc_key", Text).secret().doc(
        "K T Z M",
        "Key of encrypted backups. Kilo and Train fall back to a key that everybody knows, `default_aes_cbc_key`.",
    ),
    trove("backup_chunk_size", Int(128, 1 << 30)).default("65536").doc("K T", "Bytes read at once."),
    trove("backup_segment_max_size", Int(1 << 10, i64::MAX)).default("2147483648").doc("K T", "Bytes in one segment of a backup."),
    trove("backup_drill", Bool).default("false").doc("own", "After each backup, restore it into a directory of its own and check it there; a damaged one is reported FAILED."),
    trove("backup_drill_dir", Path).doc("own", "Directory for such drills; the data volume when not set."),
    trove("backup_spool_dir", Path).default("$state_dir").doc(
        "own",
        "Folder on whose file system the segment being sent is kept, without a name, until storage has it. Without space there, segments are small \
         and kept in memory.",
    ),
    trove("backup_rate_limit", Int(0, i64::MAX)).default("0").doc("own", "Bytes of content a backup reads in a second at most; 0 is no limit."),
    trove("backup_rate_limit_in_use", Int(0, i64::MAX)).default("6291456").doc(
        "own",
        "Likewise, but only while the database has clients at work: half of what `gzip` piped to `openssl enc` takes. With 0 they make no difference.",
    ),
    trove("backup_runner_options", Dict).default("").doc("K T", "Extra options of backup tools: `strategy:options,...`."),
    trove("verify_swift_checksum_on_restore", Bool).default("true").doc("K T", "Compare the checksum before restoring."),
    trove("restore_usage_timeout", WAIT).default("36000").doc("K T Z M", "Seconds a restore may take (2026.1: 3600, which only its controller counts)."),
    trove("swift_api_insecure", Bool).default("false").doc("T Z M", "Do not verify the certificate of Swift."),
    trove("swift_url", Text).doc(
        "K T Z M",
        "Swift without its account, ending in `AUTH_`: the project's id follows. When not set, the request's address of Swift counts, or its service catalog.",
    ),
    trove("swift_service_type", Text).default("object-store").doc("K T Z M", "Swift's type in a service catalog."),
    trove("swift_endpoint_type", Text).default("publicURL").doc("K T Z M", "Which of Swift's addresses in a service catalog."),
    trove("swift_idle_timeout", Int(1, LONGEST_WAIT))
        .default("60")
        .doc("own", "Seconds Swift or Keystone may do nothing before a request counts as failed. There is no limit to a transfer that moves."),
    trove("backup_manifest", Choice(&["slo", "dlo", ""])).doc(
        "own",
        "What makes the segments of a backup one object: a static (`slo`) or a dynamic (`dlo`) manifest. When empty `slo`, with a Kilo controller \
         `dlo`, since that one can delete no other.",
    ),
    trove("backup_local_dir", Path).doc("own", "Folder of backups, with `storage_strategy = local`."),
    trove("guest_log_container_name", Text).default("database_logs").doc("T Z M", "Container of published logs."),
    trove("guest_log_limit", Int(1, i64::MAX)).default("1000000").doc("T Z M", "Bytes of one published piece of a log."),
    trove("guest_log_expiry", Int(0, i64::MAX)).default("2592000").doc("T Z M", "Seconds until published logs expire."),
    trove("module_types", List).default("ping,new_relic_license").doc("T Z M", "Drivers of modules this guest has."),
    OptionSpec::new(SERVICE_CREDENTIALS, "auth_url", Text)
        .aliases(&[(DEFAULT, "trove_auth_url")])
        .doc("T Z M", "Keystone. Asked for the address of Swift when neither request nor `swift_url` has it."),
    OptionSpec::new(SERVICE_CREDENTIALS, "region_name", Text)
        .aliases(&[(DEFAULT, "os_region_name")])
        .doc("K T Z M", "Region of Swift in a service catalog (Trove: RegionOne). When not set, RegionOne or else the only one."),
    credential("auth_url", Text).doc("own", "Keystone v3. When set, backups are stored with a token of these credentials, and not with the request's."),
    credential("username", Text).doc("own", "User."),
    credential("password", Text).secret().doc("own", "Its password."),
    credential("user_domain_name", Text).default("Default").doc("own", "Domain of the user."),
    credential("project_name", Text).doc("own", "Project to be in."),
    credential("project_domain_name", Text).default("Default").doc("own", "Domain of the project."),
    credential("application_credential_id", Text).doc("own", "Application credential, instead of user, password and project."),
    credential("application_credential_secret", Text).secret().doc("own", "Its secret."),
    credential("cafile", Path).doc("own", "Authorities the certificates of Keystone and Swift are checked against, besides the system's."),
    credential("insecure", Bool).default("false").doc("own", "Do not verify the certificate of Keystone."),
    credential("own_account", Bool)
        .default("false")
        .doc("own", "Store into the account of these credentials; else into the request's, where they need a role (`ResellerAdmin`)."),
    rabbit("rabbit_host", Text)
        .default("localhost")
        .aliases(&[(DEFAULT, "rabbit_host")])
        .doc("K T", "Broker, when `transport_url` names none."),
    rabbit("rabbit_port", Int(0, 65535)).default("5672").aliases(&[(DEFAULT, "rabbit_port")]).doc("K T", "Its port."),
    rabbit("rabbit_hosts", List)
        .default("$rabbit_host:$rabbit_port")
        .aliases(&[(DEFAULT, "rabbit_hosts")])
        .doc("K T", "Several brokers, `host:port`, sharing user and password."),
    rabbit("rabbit_userid", Text).default("guest").aliases(&[(DEFAULT, "rabbit_userid")]).doc("K T", "User of those brokers."),
    rabbit("rabbit_password", Text)
        .default("guest")
        .secret()
        .aliases(&[(DEFAULT, "rabbit_password")])
        .doc("K T", "Password of that user."),
    rabbit("rabbit_virtual_host", Text)
        .default("/")
        .aliases(&[(DEFAULT, "rabbit_virtual_host")])
        .doc("K T", "Virtual host, when `transport_url` has no path."),
    rabbit("ssl", Bool)
        .default("false")
        .aliases(&[(RABBIT, "rabbit_use_ssl"), (DEFAULT, "rabbit_use_ssl")])
        .doc("K T Z M", "TLS to the broker."),
    rabbit("ssl_version", Choice(&["", "sslv23", "tlsv1", "tlsv1_1", "tlsv1_2"]))
        .default("")
        .aliases(&[(RABBIT, "kombu_ssl_version"), (DEFAULT, "kombu_ssl_version")])
        .doc("K T Z M", "The one version of TLS to speak; empty or `sslv23` negotiates the newest."),
    rabbit("ssl_key_file", Path)
        .aliases(&[(RABBIT, "kombu_ssl_keyfile"), (DEFAULT, "kombu_ssl_keyfile")])
        .doc("K T Z M", "Key of the client certificate, without a passphrase; looked for in `ssl_cert_file` when not set."),
    rabbit("ssl_cert_file", Path)
        .aliases(&[(RABBIT, "kombu_ssl_certfile"), (DEFAULT, "kombu_ssl_certfile")])
        .doc("K T Z M", "Client certificate, followed by the authorities between it and one the broker knows."),
    rabbit("ssl_ca_file", Path)
        .aliases(&[(RABBIT, "kombu_ssl_ca_certs"), (DEFAULT, "kombu_ssl_ca_certs")])
        .doc("K T Z M", "Authorities the broker's certificate must be from; no others count. Without it nothing is verified, and the log says so (docs/broker.md)."),
    rabbit("ssl_enforce_hostname_verification", Bool)
        .default("true")
        .doc("M", "Whether the certificate must name the broker, when `ssl_ca_file` is set."),
    rabbit("rabbit_login_method", Choice(&["AMQPLAIN", "PLAIN", "EXTERNAL"]))
        .default("AMQPLAIN")
        .aliases(&[(DEFAULT, "rabbit_login_method")])
        .doc("K T Z M", "SASL mechanism. `EXTERNAL` is by client certificate."),
    rabbit("amqp_durable_queues", Bool)
        .aliases(&[(DEFAULT, "rabbit_durable_queues"), (DEFAULT, "amqp_durable_queues")])
        .doc("K T Z M", "Durable queues and exchange (oslo's default: false). Without it the agent finds out from the broker."),
    rabbit("amqp_auto_delete", Bool)
        .aliases(&[(DEFAULT, "amqp_auto_delete")])
        .doc("K T Z M", "Queues and exchange delete themselves (oslo's default: false). Without it, likewise."),
    rabbit("rabbit_ha_queues", Bool)
        .default("false")
        .aliases(&[(DEFAULT, "rabbit_ha_queues")])
        .doc("K T Z M", "Declare queues with `x-ha-policy: all`."),
    rabbit("rabbit_quorum_queue", Bool)
        .doc("Z M", "Declare quorum queues, which are durable (oslo's default: false). Without it, likewise."),
    rabbit("rabbit_quorum_delivery_limit", Int(0, u32::MAX as i64)).default("0").doc("Z M", "Redeliveries of one message; 0 is no limit."),
    rabbit("rabbit_quorum_max_memory_length", Int(0, u32::MAX as i64))
        .default("0")
        .aliases(&[(RABBIT, "rabbit_quroum_max_memory_length")])
        .doc("Z M", "Messages of a quorum queue kept in memory; 0 is no limit."),
    rabbit("rabbit_quorum_max_memory_bytes", Int(0, u32::MAX as i64))
        .default("0")
        .aliases(&[(RABBIT, "rabbit_quroum_max_memory_bytes")])
        .doc("Z M", "Bytes of a quorum queue kept in memory; 0 is no limit."),
    rabbit("rabbit_qos_prefetch_count", Int(0, u16::MAX as i64)).default("0").doc("T Z M", "Messages taken ahead; 0 is no limit."),
    rabbit("heartbeat_timeout_threshold", Int(0, u16::MAX as i64))
        .default("60")
        .aliases(&[(DEFAULT, "heartbeat_timeout_threshold")])
        .doc("K T Z M", "Seconds of silence after which the broker counts as gone; 0 leaves that to the broker and to TCP's keep-alive (Kilo's default)."),
    rabbit("kombu_reconnect_delay", Float(0.0, 3600.0))
        .default("1.0")
        .aliases(&[(DEFAULT, "kombu_reconnect_delay")])
        .doc("K T Z M", "Seconds to wait before connecting again."),
    rabbit("kombu_reconnect_splay", Float(0.0, 3600.0)).default("0.0").doc("M", "Up to so many random seconds more."),
    rabbit("kombu_missing_consumer_retry_timeout", WAIT)
        .default("60")
        .aliases(&[(RABBIT, "kombu_reconnect_timeout")])
        .doc("T Z M", "Seconds to wait for a reply queue that is not there."),
    rabbit("kombu_failover_strategy", Choice(&["round-robin", "shuffle"]))
        .default("round-robin")
        .doc("T Z M", "Which broker comes after one that failed: the next of the list, or any other."),
    rabbit("rabbit_retry_interval", Int(1, LONGEST_WAIT))
        .default("1")
        .aliases(&[(DEFAULT, "rabbit_retry_interval")])
        .doc("K T Z M", "Seconds before the second attempt to connect."),
    rabbit("rabbit_retry_backoff", WAIT)
        .default("2")
        .aliases(&[(DEFAULT, "rabbit_retry_backoff")])
        .doc("K T Z M", "Seconds by which the wait grows."),
    rabbit("rabbit_interval_max", Int(1, LONGEST_WAIT)).default("30").doc("T Z M", "Longest wait between attempts, in seconds."),
    rabbit("enable_cancel_on_failover", Bool).default("false").doc("T Z M", "Consume with `x-cancel-on-ha-failover`."),
    datastore("mount_point", Path).doc("K T Z M", "Where the data volume is mounted; the datastore's own place when not set."),
    datastore("device_path", Path).doc("K T Z M", "Block device of the data volume, for this datastore."),
    datastore("readahead_size", Int(0, 1 << 20))
        .doc("K T Z M", "Read-ahead of the data volume, in sectors of 512 bytes; the kernel's own when not set. Trove has it for Vertica."),
    datastore("ignore_users", List)
        .aliases(&[(DEFAULT, "ignore_users")])
        .aliases_for(LISTS_IN_DEFAULT)
        .doc("K T Z M", "Reserved users; the datastore's own list when not set. `[DEFAULT]` counts for the MySQL family and CouchDB."),
    datastore("ignore_dbs", List)
        .aliases(&[(DEFAULT, "ignore_dbs")])
        .aliases_for(LISTS_IN_DEFAULT)
        .doc("K T Z M", "Reserved databases, likewise."),
    datastore("default_password_length", Int(1, 1024)).doc("T Z M", "Length of passwords the agent makes, for this datastore."),
    datastore("backup_strategy", Text)
        .aliases(&[(DEFAULT, "backup_strategy")])
        .doc("K T Z M", "How backups are made; the datastore's default when not set."),
    datastore("replication_strategy", Text).doc("K T Z M", "How replicas follow; the datastore's default when not set."),
    datastore("guest_log_exposed_logs", List)
        .doc("T Z M", "Logs users may see and publish, or `all`; the datastore's own list when not set. Administrators see every log."),
    datastore("guest_log_long_query_time", Int(-1, i64::MAX))
        .doc("T Z M", "Milliseconds from which on a statement is in the `slow_query` log; the datastore's default when not set."),
    datastore("socket", Path).doc("own", "The server's Unix socket, when it is not at the usual place."),
    datastore("config_dir", Path).doc("own", "Folder of the server's configuration, likewise."),
    datastore("service_name", Text).doc("own", "Unit (`systemd`) or container (`docker`) of the server, likewise."),
    datastore("configsvr_port", Int(1, 65535)).default("27019").doc("T", "Port of a cluster's config servers (MongoDB)."),
    datastore("docker_image", Text).doc("Z M", "Image of the container to make when there is none (`docker` only)."),
];

/// Options of oslo.messaging's rabbit driver that change nothing here, but are no mistake in the query of a `transport_url`.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "conn_pool_min_size",
    "conn_pool_ttl",
    "direct_mandatory_flag",
    "fake_rabbit",
    "heartbeat_in_pthread",
    "heartbeat_rate",
    "hostname",
    "kombu_compression",
    "processname",
    "rabbit_max_retries",
    "rabbit_stream_fanout",
    "rabbit_transient_queues_ttl",
    "rabbit_transient_quorum_queue",
    "rpc_conn_pool_size",
    "rpc_reply_exchange",
    "send_single_message",
    "socket_timeout",
    "ssl_enforce_fips_mode",
    "tcp_user_timeout",
    "use_queue_manager",
];
