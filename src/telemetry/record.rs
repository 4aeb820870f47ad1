//! One event, taken apart.

use std::fmt::{Debug, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::request::Request;
use crate::system::clock::Utc;

/// A field of an event.
#[derive(Debug)]
pub(super) enum Said {
    /// A text as such: shown in quotes.
    Text(String),
    /// What is for people: errors, states.
    Words(String),
    /// A number or a truth value.
    Value(Value),
}

/// What a line is made of.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) time: Utc,
    pub(super) level: Level,
    /// The module, with dots, as Python's loggers are called.
    pub(super) logger: String,
    pub(super) message: String,
    /// What else was said, in order.
    pub(super) fields: Vec<(&'static str, Said)>,
    pub(super) request: Option<Request>,
    pub(super) file: Option<&'static str>,
    pub(super) line: Option<u32>,
}

impl Record {
    pub(super) fn of(event: &Event<'_>, request: Option<Request>) -> Self {
        let about = event.metadata();
        let mut record = Record {
            time: Utc::now(),
            level: *about.level(),
            logger: about.target().replace("::", "."),
            message: String::new(),
            fields: Vec::new(),
            request,
            file: about.file(),
            line: about.line(),
        };
        event.record(&mut record);
        record
    }

    /// Python's name of the level.
    pub(super) fn level_name(&self) -> &'static str {
        match self.level {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            _ => "DEBUG",
        }
    }

    /// Python's number of the level (logging/__init__.py).
    pub(super) fn level_number(&self) -> u8 {
        match self.level {
            Level::ERROR => 40,
            Level::WARN => 30,
            Level::INFO => 20,
            _ => 10,
        }
    }

    /// syslog's severity (RFC 5424, table 2).
    pub(super) fn priority(&self) -> u8 {
        match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        }
    }

    /// The message, and the fields behind it. No control character is left in it: one event is one line, whatever a server or a client has said.
    pub(super) fn words(&self) -> String {
        let mut words = one_line(&self.message);
        for (name, said) in &self.fields {
            let gap = if words.is_empty() { "" } else { " " };
            // Writing to a `String` does not fail.
            let _written = match said {
                Said::Text(text) => write!(words, "{gap}{name}={text:?}"),
                Said::Words(text) => write!(words, "{gap}{name}={}", one_line(text)),
                Said::Value(value) => write!(words, "{gap}{name}={value}"),
            };
        }
        words
    }

    fn put(&mut self, field: &Field, said: Said) {
        match (field.name(), said) {
            ("message", Said::Text(text) | Said::Words(text)) => self.message = text,
            (name, said) => self.fields.push((name, said)),
        }
    }
}

/// With escapes for what would begin a line or move a cursor.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] }).collect()
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Said::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, Said::Words(format!("{value:?}")));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Said::Value(value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Said::Value(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Said::Value(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Said::Value(value.into()));
    }
}
