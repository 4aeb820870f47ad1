//! Documents as controllers send them, as the server's nested YAML: names with dots (Train), and the lines of `name = value` that servers had before 2.6, which
//! Kilo's template and Kilo's groups still have.

use serde_json::{Map, Value};

use crate::codec::{Document, Properties, Yaml};
use crate::error::Result;

/// What options were called before 2.6 (manual of 2.6, "Configuration File Options").
const OLD_NAMES: [(&str, &str); 24] = [
    ("auth", "security.authorization"),
    ("bind_ip", "net.bindIp"),
    ("configdb", "sharding.configDB"),
    ("dbpath", "storage.dbPath"),
    ("directoryperdb", "storage.directoryPerDB"),
    ("fork", "processManagement.fork"),
    ("ipv6", "net.ipv6"),
    ("journal", "storage.journal.enabled"),
    ("journalCommitInterval", "storage.journal.commitIntervalMs"),
    ("keyFile", "security.keyFile"),
    ("logappend", "systemLog.logAppend"),
    ("logpath", "systemLog.path"),
    ("maxConns", "net.maxIncomingConnections"),
    ("notablescan", "setParameter.notablescan"),
    ("noscripting", "security.javascriptEnabled"),
    ("oplogSize", "replication.oplogSizeMB"),
    ("pidfilepath", "processManagement.pidFilePath"),
    ("port", "net.port"),
    ("profile", "operationProfiling.mode"),
    ("quiet", "systemLog.quiet"),
    ("replSet", "replication.replSetName"),
    ("slowms", "operationProfiling.slowOpThresholdMs"),
    ("smallfiles", "storage.mmapv1.smallFiles"),
    ("syncdelay", "storage.syncPeriodSecs"),
];

/// Names of a path.
pub(super) fn path(name: &str) -> Vec<&str> {
    name.split('.').collect()
}

fn typed(text: &str) -> Value {
    let text = text.trim();
    let number = || text.parse::<i64>().ok().map(Value::from);
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => number().unwrap_or_else(|| Value::from(text)),
    }
}

/// A value in the words of today's option.
fn translated(old: &str, value: Value) -> Value {
    match (old, &value) {
        ("auth", Value::Bool(on)) => Value::from(if *on { "enabled" } else { "disabled" }),
        ("noscripting", Value::Bool(off)) => Value::Bool(!off),
        ("profile", Value::Number(level)) => Value::from(match level.as_u64() {
            Some(1) => "slowOp",
            Some(2) => "all",
            _ => "off",
        }),
        _ => value,
    }
}

/// True for lines of `name = value`: no YAML has a mapping's line without a colon.
fn is_old(text: &str) -> bool {
    let line = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    text.lines().find(|text| line(text)).is_some_and(|first| {
        let name = first.split(['=', ':']).next().unwrap_or_default();
        first.split_at(name.len()).1.starts_with('=')
    })
}

/// Reads a text of either form. Of the old form, options that there are no more become names that no server knows.
///
/// # Errors
/// A value cannot stand in a YAML file.
pub(super) fn parse(text: &str) -> Result<Yaml> {
    if is_old(text) {
        let mut document = Yaml::parse("");
        for (name, value) in Properties::parse(text).settings() {
            let (Some(old), Some(value)) = (name.first(), value.as_str()) else { continue };
            let new = OLD_NAMES.iter().find(|(known, _)| known == old).map_or(old.as_str(), |(_, new)| *new);
            document.set(&path(new), &translated(old, typed(value)))?;
        }
        return Ok(document);
    }
    let mut document = Yaml::parse(text);
    for (names, value) in document.settings() {
        // Nothing can be put into a mapping on one line.
        let on_one_line = value.as_object().is_some_and(|children| !children.is_empty());
        if on_one_line || names.iter().any(|name| name.contains('.')) {
            let old: Vec<&str> = names.iter().map(String::as_str).collect();
            document.remove(&old);
            let new: Vec<&str> = names.iter().flat_map(|name| name.split('.')).collect();
            document.set(&new, &value)?;
        }
    }
    Ok(document)
}

/// Values of a configuration group.
///
/// # Errors
/// A value cannot stand in a YAML file.
pub(super) fn of_values(values: &Map<String, Value>) -> Result<Yaml> {
    let mut document = Yaml::parse("");
    let mut pending: Vec<(String, &Value)> = values.iter().rev().map(|(name, value)| (name.clone(), value)).collect();
    while let Some((name, value)) = pending.pop() {
        match value.as_object().filter(|children| !children.is_empty()) {
            Some(children) => pending.extend(children.iter().rev().map(|(child, value)| (format!("{name}.{child}"), value))),
            None => document.set(&path(&name), value)?,
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kilos_template_becomes_yaml() {
        let text = "# mongodb.conf\n\nsmallfiles = false\n\ndbpath=/var/lib/mongodb\nlogappend=true\n#port = 27017\njournal=true\nauth = true\nprofile=1\nnohints = true\n";
        let document = parse(text).unwrap();
        let get = |name: &str| document.get(&path(name));
        assert_eq!((get("storage.dbPath"), get("storage.journal.enabled")), (Some(json!("/var/lib/mongodb")), Some(json!(true))));
        assert_eq!((get("security.authorization"), get("operationProfiling.mode")), (Some(json!("enabled")), Some(json!("slowOp"))));
        assert_eq!((get("storage.mmapv1.smallFiles"), get("nohints"), get("net.port")), (Some(json!(false)), Some(json!(true)), None));
    }

    #[test]
    fn trains_template_is_nested_and_other_lines_stay() {
        let document =
            parse("# rendered\n\nstorage.mmapv1.smallFiles: false\nstorage.journal.enabled: true\nnet:\n  port: 1 # mine\n").unwrap();
        assert_eq!(document.get(&["storage", "journal", "enabled"]), Some(json!(true)));
        assert_eq!(document.get(&["storage.journal.enabled"]), None);
        assert!(document.render().starts_with("# rendered\n") && document.render().contains("  port: 1 # mine\n"), "{}", document.render());
        assert_eq!(parse("# nothing\n").unwrap().render(), "# nothing\n");
        assert!(parse("a: b=c\n").unwrap().get(&["a"]).is_some());
    }

    #[test]
    fn groups_are_nested_however_they_come() {
        let document =
            of_values(json!({"systemLog.verbosity": 1, "net": {"compression": {"compressors": "zstd"}}}).as_object().unwrap()).unwrap();
        assert_eq!(document.get(&["systemLog", "verbosity"]), Some(json!(1)));
        assert_eq!(document.get(&["net", "compression", "compressors"]), Some(json!("zstd")));
    }
}
