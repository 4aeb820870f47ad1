//! One option's value out of all sources: environment, files from the last to the first, default; then `$name`, then type.
//!
//! Mirrors `ConfigOpts._do_get` and `_Namespace._get_file_value` of oslo_config/cfg.py.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret, SecretString};

use super::error::{ConfigError, Origin};
use super::ini::{IniEntry, IniFile, normalize_group};
use super::spec::{DATASTORE, OptionSpec, is_secret_name};
use super::substitute::substitute;
use super::value::{Kind, Value};

/// A file that was read.
#[derive(Debug, Clone)]
pub struct LoadedFile {
    /// Path, as messages name it.
    pub path: Utf8PathBuf,
    /// What it says.
    pub ini: IniFile,
}

/// All sources of values, in order of precedence: `environment`, then `files` from the last to the first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// Files in the order read.
    pub files: Vec<LoadedFile>,
    /// Variables named `OS_<GROUP>__<OPTION>`.
    pub environment: BTreeMap<String, SecretString>,
}

/// What an option came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The value.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
    /// Whether a credential went into it.
    pub secret: bool,
}

/// A raw value and its place.
struct Found<'a> {
    text: &'a str,
    origin: Origin,
}

/// Finds values of declared options.
#[derive(Debug)]
pub struct Lookup<'a> {
    options: &'a [OptionSpec],
    layers: &'a Layers,
    datastore: Option<String>,
}

/// How far references are followed for one option: so deep, so many, to so many bytes in all. No file in use comes near; one that
/// doubles with every line would take all memory or time.
const MAX_DEPTH: usize = 32;
const MAX_REFERENCES: usize = 1000;
const MAX_BYTES: usize = 1 << 20;

/// References being resolved for one option.
#[derive(Debug, Default)]
struct Chain {
    /// Group and name of each, to notice an option that refers to itself.
    places: Vec<(String, String)>,
    references: usize,
    bytes: usize,
}

impl Chain {
    /// Takes note of one more reference.
    fn follow(&mut self) -> Result<(), &'static str> {
        self.references += 1;
        if self.places.len() > MAX_DEPTH || self.references > MAX_REFERENCES {
            return Err("which refers to too many others");
        }
        Ok(())
    }

    /// Takes note of what a reference came to.
    fn take(&mut self, text: &str) -> Result<(), &'static str> {
        self.bytes += text.len();
        if self.bytes > MAX_BYTES { Err("which makes the value too long") } else { Ok(()) }
    }
}

impl<'a> Lookup<'a> {
    /// Options may be declared for [`DATASTORE`]; `datastore` is the group they are then in.
    pub fn new(options: &'a [OptionSpec], layers: &'a Layers, datastore: Option<String>) -> Self {
        Lookup { options, layers, datastore }
    }

    /// The value of the declared option `name` of `group`.
    ///
    /// # Errors
    /// A value of the wrong type or a reference to an unknown option, with its place. Also an option nobody declared.
    pub fn get(&self, group: &str, name: &str) -> Result<Outcome, ConfigError> {
        match self.options.iter().find(|spec| spec.group == group && spec.name == name) {
            Some(spec) => self.evaluate(spec, &mut Chain::default()),
            None => Err(ConfigError::new(Origin::Default, format!("[{group}] {name} is not an option"))),
        }
    }

    fn evaluate(&self, spec: &OptionSpec, chain: &mut Chain) -> Result<Outcome, ConfigError> {
        let group = self.real_group(spec.group);
        if spec.kind == Kind::Multi {
            return self.evaluate_multi(spec, &group, chain);
        }
        let found = self.find(spec, &group).or_else(|| spec.default.map(|text| Found { text, origin: Origin::Default }));
        let Some(Found { text, origin }) = found else {
            return Ok(Outcome { value: Value::Missing, origin: Origin::Default, secret: spec.secret });
        };
        let (text, tainted) = self.expand(spec.name, &group, text, &origin, chain)?;
        let secret = spec.secret || tainted;
        match Value::convert(spec.kind, text.expose_secret()) {
            Ok(value) => Ok(Outcome { value, origin, secret }),
            Err(reason) => {
                let shown = if secret || !spec.may_be_shown() || looks_like_credential(text.expose_secret()) {
                    "its value".to_owned()
                } else {
                    format!("'{}'", text.expose_secret().escape_debug())
                };
                Err(ConfigError::new(origin, format!("[{group}] {}: {shown} is not valid: it {reason}", spec.name)))
            }
        }
    }

    fn evaluate_multi(&self, spec: &OptionSpec, group: &str, chain: &mut Chain) -> Result<Outcome, ConfigError> {
        let names = self.names(spec, group);
        let mut found: Vec<Found<'_>> = Vec::new();
        if let Some((variable, text)) = self.variable(group, spec.name) {
            found.push(Found { text, origin: Origin::Environment(variable) });
        } else {
            for file in &self.layers.files {
                // Mirrors `rvalue = val + rvalue`: inside one file the names come in reverse order.
                for (group, name) in names.iter().rev() {
                    found.extend(file.ini.values(group, name).map(|entry| from_file(&file.path, entry)));
                }
            }
        }
        let origin = found.last().map_or(Origin::Default, |found| found.origin.clone());
        let mut secret = spec.secret;
        let mut values = Vec::new();
        for Found { text, origin } in found {
            let (text, tainted) = self.expand(spec.name, group, text, &origin, chain)?;
            secret |= tainted;
            values.push(text);
        }
        let value = if values.is_empty() { Value::Missing } else { Value::Multi(values) };
        Ok(Outcome { value, origin, secret })
    }

    fn real_group(&self, group: &str) -> String {
        match &self.datastore {
            Some(datastore) if group == DATASTORE => datastore.clone(),
            _ => group.to_owned(),
        }
    }

    /// Every place `spec` may be given at, its own first.
    fn names<'s>(&self, spec: &'s OptionSpec, group: &str) -> Vec<(String, &'s str)> {
        let mut names = vec![(group.to_owned(), spec.name)];
        let holds = spec.aliases_for.is_empty() || self.datastore.as_deref().is_some_and(|datastore| spec.aliases_for.contains(&datastore));
        if holds {
            names.extend(spec.aliases.iter().map(|(group, name)| (self.real_group(group), *name)));
        }
        names
    }

    fn find(&self, spec: &OptionSpec, group: &str) -> Option<Found<'_>> {
        if let Some((variable, text)) = self.variable(group, spec.name) {
            return Some(Found { text, origin: Origin::Environment(variable) });
        }
        let names = self.names(spec, group);
        self.layers.files.iter().rev().find_map(|file| {
            names.iter().find_map(|(group, name)| file.ini.values(group, name).next_back().map(|entry| from_file(&file.path, entry)))
        })
    }

    /// Mirrors `EnvironmentConfigurationSource.get_name`; deprecated names are not looked for.
    fn variable(&self, group: &str, name: &str) -> Option<(String, &str)> {
        let variable = format!("OS_{}__{}", group.to_uppercase(), name.to_uppercase());
        let text = self.layers.environment.get(&variable)?.expose_secret();
        Some((variable, text))
    }

    /// Replaces references. Also says whether a credential was put in.
    fn expand(&self, name: &str, group: &str, text: &str, origin: &Origin, chain: &mut Chain) -> Result<(SecretString, bool), ConfigError> {
        let place = (group.to_owned(), name.to_owned());
        if chain.places.contains(&place) {
            return Err(ConfigError::new(origin.clone(), format!("[{group}] {name} refers to itself; write '$$' for a dollar sign")));
        }
        chain.places.push(place);
        let mut tainted = false;
        let expanded = substitute(text, |reference| {
            let resolved = chain.follow().and_then(|()| self.reference(reference, group, chain)).and_then(|(text, secret)| {
                chain.take(&text)?;
                Ok((text, secret))
            });
            let (text, secret) = resolved.map_err(|problem| {
                // After a dollar sign there may be the rest of a password, so the name is not quoted for credentials.
                let shown =
                    if is_secret_name(name) || looks_like_credential(text) { "a name".to_owned() } else { format!("'{reference}'") };
                let message = format!("[{group}] {name} refers to {shown} after a '$', {problem}; write '$$' for a dollar sign");
                ConfigError::new(origin.clone(), message)
            })?;
            tainted |= secret;
            Ok(text)
        });
        chain.places.pop();
        Ok((SecretString::from(expanded?), tainted))
    }

    /// The text of option `key`, seen from `group`. Mirrors `StrSubWrapper.__getitem__`: the same group, then `[DEFAULT]`;
    /// with a dot, the part before it is a group.
    fn reference(&self, key: &str, group: &str, chain: &mut Chain) -> Result<(String, bool), &'static str> {
        let mut places = vec![(group, key), ("DEFAULT", key)];
        if let Some((other, name)) = key.split_once('.') {
            if !self.is_group(other) {
                return Err("which names an unknown group");
            }
            places = vec![(other, name), ("DEFAULT", key)];
        }
        for (group, name) in &places {
            if let Some(spec) = self.spec_at(group, name) {
                let outcome = self.evaluate(spec, chain).map_err(|_| "which is itself wrong")?;
                return Ok((outcome.value.python_text(), outcome.secret));
            }
        }
        // Trove has hundreds of options more than this agent: what a file sets can be referred to without being declared.
        for (group, name) in places {
            let entry =
                self.layers.files.iter().rev().find_map(|file| file.ini.last(group, name).map(|entry| from_file(&file.path, entry)));
            if let Some(Found { text, origin }) = entry {
                let (text, tainted) = self.expand(name, group, text, &origin, chain).map_err(|_| "which is itself wrong")?;
                return Ok((text.expose_secret().to_owned(), tainted || is_secret_name(name)));
            }
        }
        Err("which is not the name of an option")
    }

    fn is_group(&self, name: &str) -> bool {
        let declared = self.options.iter().any(|spec| self.real_group(spec.group) == name);
        declared || self.layers.files.iter().any(|file| file.ini.sections.iter().any(|section| normalize_group(section) == name))
    }

    /// The option declared for this place, under its own or another name.
    fn spec_at(&self, group: &str, name: &str) -> Option<&'a OptionSpec> {
        let own = self.options.iter().find(|spec| spec.name == name && self.real_group(spec.group) == group);
        own.or_else(|| self.options.iter().find(|spec| spec.aliases.iter().any(|(g, alias)| *alias == name && self.real_group(g) == group)))
    }
}

fn from_file<'e>(path: &Utf8Path, entry: &'e IniEntry) -> Found<'e> {
    Found { text: entry.value.expose_secret(), origin: Origin::File(path.to_owned(), entry.line) }
}

/// Whether a text contains something like `user:password@`.
pub(super) fn looks_like_credential(text: &str) -> bool {
    text.contains('@') && text.contains(':')
}
