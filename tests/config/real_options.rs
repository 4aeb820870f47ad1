//! The table of options against the options Trove, oslo.messaging and oslo.log really have.

use serde_json::{Value as Json, json};
use trove_guestagent::config::{DATASTORE, Layers, LoadedFile, Lookup, OPTIONS, OptionSpec, Settings, parse_ini};

use crate::oracle::{ask, plain};

/// Defaults that differ on purpose: group, name, why.
const OTHER_DEFAULTS: &[(&str, &str, &str)] = &[
    ("DEFAULT", "tenant_id", "written into guest_info.conf, but no option of Trove"),
    ("DEFAULT", "replication_strategy", "an option of the guest's program alone (trove/cmd/guest.py), whose default is MySQL's strategy"),
    ("DEFAULT", "ssl_mode", "an option of the guest's program alone (trove/cmd/guest.py), without a default there, too"),
    ("DEFAULT", "restore_usage_timeout", "the longest of all releases"),
    ("oslo_messaging_rabbit", "amqp_durable_queues", "unset leaves it to the broker to tell"),
    ("oslo_messaging_rabbit", "amqp_auto_delete", "likewise"),
    ("oslo_messaging_rabbit", "rabbit_quorum_queue", "likewise"),
    ("service_credentials", "auth_url", "Trove's default is no address"),
    ("service_credentials", "region_name", "unset takes whatever region the catalog has"),
];

#[test]
fn names_and_defaults_are_the_real_ones() {
    let specs: Vec<&OptionSpec> = OPTIONS.iter().filter(|spec| spec.era.ends_with('M') && spec.group != DATASTORE).collect();
    let options: Vec<Json> = specs.iter().map(|spec| json!({"group": spec.group, "name": spec.name})).collect();
    let answers = ask(&[json!({"ask": "defaults", "options": options})]);
    let layers = Layers::default();
    let lookup = Lookup::new(OPTIONS, &layers, None);
    let mut differences = Vec::new();
    for (spec, theirs) in specs.into_iter().zip(answers[0].as_array().unwrap()) {
        let ours = plain(&lookup.get(spec.group, spec.name).unwrap().value);
        // An empty text and no text are the same to whoever reads these options.
        let same = theirs.get("value").is_some_and(|value| *value == ours || (ours.is_null() && value == ""));
        if !same && !OTHER_DEFAULTS.iter().any(|(group, name, _)| (*group, *name) == (spec.group, spec.name)) {
            differences.push(format!("[{}] {}: {theirs} not {ours}", spec.group, spec.name));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn options_of_a_datastore_are_found_where_trove_finds_them() {
    let head = "[DEFAULT]\nguest_id=g\ndatastore_manager=mysql\n";
    let inputs = [
        vec!["[mysql]\nignore_users=a,b\nignore_dbs=c\nmount_point=/m\nbackup_strategy=S\n"],
        vec!["[DEFAULT]\nignore_users=a\nignore_dbs=c,d\nbackup_strategy=S\n[mysql]\nmount_point=/m\n"],
        vec!["[DEFAULT]\nignore_users=a\n[mysql]\nignore_users=b\nignore_dbs=x\nmount_point=/m\nbackup_strategy=S\n"],
        vec![
            "[mysql]\nignore_users=b\nmount_point=/m\nbackup_strategy=S\nignore_dbs=x\n",
            "[DEFAULT]\nignore_users=a\nbackup_strategy=T\n",
        ],
    ];
    let names = ["ignore_users", "ignore_dbs", "mount_point", "backup_strategy"];
    let files = |input: &Vec<&str>| -> Vec<String> { std::iter::once(head).chain(input.iter().copied()).map(str::to_owned).collect() };
    let cases: Vec<Json> = inputs.iter().map(|input| json!({"ask": "property", "files": files(input), "names": names})).collect();
    for (input, theirs) in inputs.iter().zip(ask(&cases)) {
        let files = files(input).into_iter().map(|text| LoadedFile { path: "a.conf".into(), ini: parse_ini(&text).unwrap() }).collect();
        let layers = Layers { files, ..Layers::default() };
        let lookup = Lookup::new(OPTIONS, &layers, Some("mysql".to_owned()));
        let ours: Vec<Json> = names.iter().map(|name| plain(&lookup.get(DATASTORE, name).unwrap().value)).collect();
        assert_eq!(theirs, json!(ours), "{input:?}");
    }
}

#[test]
fn a_file_of_a_controller_is_no_mistake() {
    // Everything Trove's own sample sets, as far as a guest gets to see it.
    let text = "[DEFAULT]\nguest_id = g\ndatastore_manager = mysql\ncontrol_exchange = trove\ntransport_url = rabbit://u:p@192.0.2.1:5672/\n\
                nova_compute_url = http://localhost:8774/v2\nlog_dir = /var/log/trove/\nlog_file = logfile.txt\nignore_users = os_admin\n\
                swift_url = http://x/v1/AUTH_\nstorage_strategy = SwiftStorage\nuse_syslog = False\n[oslo_messaging_notifications]\ndriver = noop\n\
                [profiler]\nenabled = false\n[mysql]\nbackup_strategy = InnoBackupEx\nreplication_strategy = MysqlGTIDReplication\n\
                [oslo_messaging_rabbit]\nrabbit_host = 192.0.2.1\nrabbit_password = x\n";
    let settings = Settings::from_text("trove-guestagent.conf", text).unwrap();
    assert_eq!(settings.log.file.unwrap(), "/var/log/trove/logfile.txt");
    assert_eq!(settings.broker.hosts.first().unwrap().host, "192.0.2.1");
}
