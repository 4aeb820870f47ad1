//! The user's configuration group as an override file.

use super::server::{KnownOptions, Reading};
use crate::codec::Document;
use crate::codec::my_cnf::{OptionFile, normalize};
use crate::error::{Error, Result};
use crate::model::Overrides;

/// What the agent alone decides: a group that moved these would take the server away from it.
const OWN_OPTIONS: &[&str] = &["datadir", "socket", "pid_file", "init_file"];

/// The group as a file. A dictionary is the whole group, as a rendered text is: no controller sends less.
///
/// # Errors
/// Something of it cannot stand in a file, or may not.
pub(super) fn parse(overrides: &Overrides) -> Result<OptionFile> {
    match overrides {
        Overrides::Text(text) => {
            let file = OptionFile::parse(text);
            if file.includes().next().is_some() {
                return Err(Error::bad_request("a configuration group must not include files"));
            }
            Ok(file)
        }
        Overrides::Values(values) => {
            let mut file = OptionFile::of_group("mysqld");
            values.iter().try_for_each(|(name, value)| file.set(&["mysqld", name], value))?;
            Ok(file)
        }
    }
}

/// Refuses what the server would not understand, and what is the agent's.
///
/// # Errors
/// The first such option.
pub(super) fn check(file: &OptionFile, known: &KnownOptions) -> Result<()> {
    for (name, value) in file.server_options() {
        if known.canonical(&name).is_some_and(|name| OWN_OPTIONS.contains(&name.as_str())) || OWN_OPTIONS.contains(&name.as_str()) {
            return Err(Error::bad_request(format!("the option '{name}' belongs to the guest agent and cannot be set")));
        }
        if !known.contains(&name) {
            return Err(Error::bad_request(format!("the server does not know the option '{name}'")));
        }
        if value.is_some_and(|value| !known.accepts(&name, value)) {
            return Err(Error::bad_request(format!("the value of the option '{name}' must be a number")));
        }
    }
    Ok(())
}

/// Refuses values that the server would replace by others, silently but for a line in its log; a number that it only rounds is a line in the agent's.
///
/// # Errors
/// A value is out of the server's range.
pub(super) fn check_range(file: &OptionFile, known: &KnownOptions, reading: &Reading) -> Result<()> {
    for (name, value) in file.server_options() {
        let name = known.canonical(&name).unwrap_or(name);
        if let Some(adjusted) = reading.adjusted.iter().find(|adjusted| adjusted.name == name) {
            return Err(Error::bad_request(format!(
                "the value {} of the option '{name}' is out of range: the server would use {}",
                adjusted.from, adjusted.to
            )));
        }
        let rounded = value.and_then(super::variables::bytes).zip(reading.values.get(&name).and_then(|text| super::variables::bytes(text)));
        if let Some((wanted, used)) = rounded.filter(|(wanted, used)| wanted.as_f64() != used.as_f64() && !LIMITED.contains(&name.as_str()))
        {
            tracing::warn!(option = name, %wanted, %used, "the server rounds a value of the configuration group");
        }
    }
    Ok(())
}

/// What a server makes of these depends on how many files its process may open; the one that is asked is the agent's child.
pub(super) const LIMITED: &[&str] = &["max_connections", "open_files_limit", "table_open_cache"];

/// Drops from a group what the layers below it say as well: it would hold fast a value of theirs that may change.
pub(super) fn without(mut file: OptionFile, known: &KnownOptions, with: &Reading, below: &Reading, base: &OptionFile) -> OptionFile {
    let in_base: Vec<String> = base.server_options().map(|(name, _)| known.canonical(&name).unwrap_or(name)).collect();
    let options: Vec<(String, String)> = file.options().map(|(group, name, _)| (group.to_owned(), name.to_owned())).collect();
    for (group, name) in options {
        let canonical = known.canonical(&name).unwrap_or_else(|| normalize(&name));
        if in_base.contains(&canonical) && with.values.get(&canonical) == below.values.get(&canonical) {
            file.remove_option(&group, &name);
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn values(value: Value) -> Overrides {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_dictionary_is_typed() {
        let file =
            parse(&values(json!({"max_connections": 10, "local_infile": false, "skip_name_resolve": null, "x": ["a", "b"]}))).unwrap();
        assert_eq!(file.render(), "[mysqld]\nlocal_infile = 0\nmax_connections = 10\nskip_name_resolve\nx = a\nx = b\n");
    }

    #[test]
    fn nothing_but_options_gets_into_a_group() {
        for bad in
            [json!({"x\n[client]": 1}), json!({"!include": "/etc/shadow"}), json!({"x": "1\u{0}"}), json!({"x": [[1]]}), json!({"": 1})]
        {
            assert!(parse(&values(bad.clone())).is_err(), "{bad}");
        }
        assert!(parse(&Overrides::Text("[mysqld]\n!includedir /etc\n".into())).is_err());
        let file = parse(&values(json!({"x": "1\ninit_file=/x"}))).unwrap();
        assert_eq!(file.render(), "[mysqld]\nx = \"1\\ninit_file=/x\"\n");
        assert_eq!(parse(&Overrides::Text("[mysqld]\nmax_connections=3".into())).unwrap().render(), "[mysqld]\nmax_connections=3");
    }
}
