//! Takes typed values out of a [`Lookup`], collecting mistakes and what every option came to.

use std::str::FromStr;
use std::time::Duration;

use camino::Utf8PathBuf;
use secrecy::{ExposeSecret, SecretString};

use super::error::{ConfigError, Origin};
use super::lookup::{Lookup, Outcome};
use super::options::{OPTIONS, RABBIT};
use super::settings::OptionOutcome;
use super::spec::OptionSpec;
use super::value::Value;

/// A value, or after a mistake (which is then on the list) something in its place so that reading can go on.
pub(super) struct Reader<'a> {
    lookup: Lookup<'a>,
    /// Name of the datastore's group, for messages.
    datastore: String,
    pub(super) errors: Vec<ConfigError>,
    pub(super) outcomes: Vec<OptionOutcome>,
    /// Options of the query of `transport_url`, which win over `[oslo_messaging_rabbit]`.
    pub(super) query: Vec<(String, SecretString)>,
    /// Where the query stands.
    pub(super) query_origin: Origin,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: Lookup<'a>, datastore: &str) -> Self {
        Reader {
            lookup,
            datastore: datastore.to_owned(),
            errors: Vec::new(),
            outcomes: Vec::new(),
            query: Vec::new(),
            query_origin: Origin::Default,
        }
    }

    /// Adds a mistake of an option's value.
    pub(super) fn mistake(&mut self, origin: Origin, group: &str, name: &str, message: &str) {
        let message = format!("[{}] {name}: {message}", self.shown_group(group));
        self.errors.push(ConfigError::new(origin, message));
    }

    /// The value and where it came from. A blank number counts as not set.
    pub(super) fn outcome(&mut self, group: &str, name: &str) -> Outcome {
        let missing = Outcome { value: Value::Missing, origin: Origin::Default, secret: false };
        let Some(spec) = OPTIONS.iter().find(|spec| spec.group == group && spec.name == name) else {
            debug_assert!(false, "[{group}] {name} is not in the table");
            return missing;
        };
        let found = match self.query_value(spec) {
            Some(found) => found,
            None => self.lookup.get(group, name),
        };
        match found {
            Ok(mut outcome) => {
                if let (Value::Missing, Some(default)) = (&outcome.value, spec.default) {
                    outcome.value = Value::convert(spec.kind, default).unwrap_or(Value::Missing);
                }
                self.record(spec, &outcome);
                outcome
            }
            Err(error) => {
                // A default is wrong only because of an option it refers to, which is reported itself.
                if error.origin != Origin::Default {
                    self.errors.push(error);
                }
                let plain = spec.default.filter(|text| !text.contains('$'));
                let value = plain.and_then(|text| Value::convert(spec.kind, text).ok()).unwrap_or(Value::Missing);
                Outcome { value, ..missing }
            }
        }
    }

    fn query_value(&self, spec: &OptionSpec) -> Option<Result<Outcome, ConfigError>> {
        if spec.group != RABBIT {
            return None;
        }
        let (_, text) = self.query.iter().find(|(name, _)| name == spec.name)?;
        Some(match Value::convert(spec.kind, text.expose_secret()) {
            Ok(value) => Ok(Outcome { value, origin: self.query_origin.clone(), secret: spec.secret }),
            Err(reason) => {
                let message = format!("[DEFAULT] transport_url: the value of '{}' after its '?' is not valid: it {reason}", spec.name);
                Err(ConfigError::new(self.query_origin.clone(), message))
            }
        })
    }

    fn record(&mut self, spec: &OptionSpec, outcome: &Outcome) {
        let set = !matches!(outcome.value, Value::Missing);
        let shown = if outcome.secret && set { "***".to_owned() } else { outcome.value.file_text() };
        let option = format!("[{}] {}", self.shown_group(spec.group), spec.name);
        self.outcomes.push(OptionOutcome { option, shown, origin: outcome.origin.clone() });
    }

    fn shown_group<'s>(&'s self, group: &'s str) -> &'s str {
        if group == super::spec::DATASTORE { &self.datastore } else { group }
    }

    /// Text; blank counts as not set.
    pub(super) fn text(&mut self, group: &str, name: &str) -> Option<String> {
        self.secret(group, name).map(|text| text.expose_secret().to_owned())
    }

    /// Text of an option that has a default.
    pub(super) fn text_or_empty(&mut self, group: &str, name: &str) -> String {
        self.text(group, name).unwrap_or_default()
    }

    /// A credential; blank counts as not set.
    pub(super) fn secret(&mut self, group: &str, name: &str) -> Option<SecretString> {
        match self.outcome(group, name).value {
            Value::Text(text) if !text.expose_secret().is_empty() => Some(text),
            _ => None,
        }
    }

    pub(super) fn path(&mut self, group: &str, name: &str) -> Option<Utf8PathBuf> {
        self.text(group, name).map(Utf8PathBuf::from)
    }

    /// A word of a `Choice`, as the enum that has these words; `None` when not set or when the enum knows no such word.
    pub(super) fn word<T: FromStr>(&mut self, group: &str, name: &str) -> Option<T> {
        self.text(group, name).and_then(|word| word.parse().ok())
    }

    pub(super) fn flag(&mut self, group: &str, name: &str) -> bool {
        matches!(self.outcome(group, name).value, Value::Bool(true))
    }

    /// A truth value that may be not set.
    pub(super) fn optional_flag(&mut self, group: &str, name: &str) -> Option<bool> {
        match self.outcome(group, name).value {
            Value::Bool(flag) => Some(flag),
            _ => None,
        }
    }

    /// A whole number that may be not set. The table's bounds must fit `T`.
    pub(super) fn optional_number<T: TryFrom<i64>>(&mut self, group: &str, name: &str) -> Option<T> {
        match self.outcome(group, name).value {
            Value::Int(number) => T::try_from(number).ok(),
            _ => None,
        }
    }

    /// A whole number of an option that has a default.
    pub(super) fn number<T: TryFrom<i64> + Default>(&mut self, group: &str, name: &str) -> T {
        self.optional_number(group, name).unwrap_or_default()
    }

    /// Whole or fractional seconds.
    pub(super) fn seconds(&mut self, group: &str, name: &str) -> Duration {
        let outcome = self.outcome(group, name);
        match outcome.value {
            Value::Int(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
            Value::Float(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or_else(|_| {
                self.mistake(outcome.origin, group, name, "its value is not valid: it must be a number of seconds");
                Duration::ZERO
            }),
            _ => Duration::ZERO,
        }
    }

    pub(super) fn list(&mut self, group: &str, name: &str) -> Option<Vec<String>> {
        match self.outcome(group, name).value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn dict(&mut self, group: &str, name: &str) -> Vec<(String, String)> {
        match self.outcome(group, name).value {
            Value::Dict(pairs) => pairs,
            _ => Vec::new(),
        }
    }
}
