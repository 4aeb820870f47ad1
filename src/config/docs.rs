//! The table of `docs/configuration.md`, made from the table of options.

use std::fmt::Write as _;

use super::options::OPTIONS;
use super::spec::{DATASTORE, OptionSpec};
use crate::generated;

fn table() -> String {
    let mut groups: Vec<&str> = Vec::new();
    for spec in OPTIONS {
        if !groups.contains(&spec.group) {
            groups.push(spec.group);
        }
    }
    let mut out = String::new();
    for group in groups {
        let title = if group == DATASTORE { "`[<datastore_manager>]`, such as `[mysql]`".to_owned() } else { format!("`[{group}]`") };
        write!(out, "\n### {title}\n\n| option | type | default | also read as | known to | what it is |\n|---|---|---|---|---|---|\n")
            .unwrap();
        for spec in OPTIONS.iter().filter(|spec| spec.group == group) {
            out.push_str(&row(spec));
        }
    }
    out.push('\n');
    out
}

fn row(spec: &OptionSpec) -> String {
    let code = |text: &str| format!("`{text}`");
    let kind = if spec.secret { format!("{}, secret", spec.kind.label()) } else { spec.kind.label() };
    let default = spec.default.filter(|text| !text.is_empty()).map(code).unwrap_or_default();
    let aliases: Vec<String> = spec.aliases.iter().map(|(group, name)| format!("`[{group}] {name}`")).collect();
    let cells = [code(spec.name), kind, default, aliases.join(", "), spec.era.to_owned(), spec.help.to_owned()];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

#[test]
fn the_documentation_has_this_very_table() {
    generated::check("configuration.md", "options", &table(), "config::docs");
}

#[test]
fn every_option_is_declared_once_and_documented() {
    for (index, spec) in OPTIONS.iter().enumerate() {
        let twins = OPTIONS.iter().filter(|other| (other.group, other.name) == (spec.group, spec.name)).count();
        assert_eq!(twins, 1, "[{}] {}", spec.group, spec.name);
        assert!(!spec.era.is_empty() && spec.help.ends_with('.'), "option {index}, {}", spec.name);
    }
}

#[test]
fn every_default_is_valid() {
    for spec in OPTIONS {
        if let Some(text) = spec.default.filter(|text| !text.contains('$')) {
            super::value::Value::convert(spec.kind, text).unwrap_or_else(|reason| panic!("{}: {reason}", spec.name));
        }
    }
}

#[test]
fn secrets_are_marked() {
    for spec in OPTIONS.iter().filter(|spec| !spec.secret) {
        for word in ["password", "secret", "token", "url"] {
            let harmless = ["default_password_length", "swift_url", "auth_url"].contains(&spec.name);
            assert!(harmless || !spec.name.contains(word), "{} looks like a credential", spec.name);
        }
    }
}
