//! [`Directives`]: what the lines of a configuration mean to the server (src/config.c).

use serde_json::Value;

use crate::codec::{Document, RedisConf};
use crate::error::{Error, Result};

/// Directives with several arguments: a text for them is cut into words; for any other it is one argument.
const SEVERAL: &[&str] = &["bind", "bind-source-addr", "client-output-buffer-limit", "oom-score-adj-values", "save", "user"];
/// Directives that stand on a line for each so many of their arguments.
const REPEATED: &[(&str, usize)] = &[("client-output-buffer-limit", 4), ("save", 2)];

/// Reads and sets directives.
pub(super) trait Directives {
    /// The arguments of every line of a directive.
    fn directive(&self, name: &str) -> Vec<Vec<String>>;

    /// The last argument of the last line of a directive: what counts of one with a single argument.
    fn last(&self, name: &str) -> Option<String>;

    /// Names, in lower case.
    fn names(&self) -> Vec<String>;

    /// Sets what a controller sends, which has `"900 1 300 10"` for two lines of `save`.
    ///
    /// # Errors
    /// The file cannot hold it.
    fn set_directive(&mut self, name: &str, value: &Value) -> Result<()>;
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Directives for RedisConf {
    fn directive(&self, name: &str) -> Vec<Vec<String>> {
        match self.get(&[name]) {
            None => Vec::new(),
            Some(Value::Array(lines)) if lines.iter().any(Value::is_array) => {
                lines.iter().filter_map(Value::as_array).map(|words| words.iter().map(text).collect()).collect()
            }
            Some(Value::Array(words)) => vec![words.iter().map(text).collect()],
            Some(one) => vec![vec![text(&one)]],
        }
    }

    fn last(&self, name: &str) -> Option<String> {
        self.directive(name).pop()?.pop()
    }

    fn names(&self) -> Vec<String> {
        self.settings().into_iter().filter_map(|(path, _)| Some(path.first()?.to_ascii_lowercase())).collect()
    }

    fn set_directive(&mut self, name: &str, value: &Value) -> Result<()> {
        // The server's texts end there (src/config.c: `stringConfigSet`).
        if value.to_string().contains("\\u0000") {
            return Err(Error::invalid(format!("the value of '{}' holds a null character", name.escape_debug())));
        }
        let lower = name.to_ascii_lowercase();
        let words: Vec<String> = match value {
            // An empty text is an argument: `save ""`.
            Value::String(text) if SEVERAL.contains(&lower.as_str()) && !text.trim().is_empty() => {
                text.split_whitespace().map(str::to_owned).collect()
            }
            Value::Array(items) if SEVERAL.contains(&lower.as_str()) && !items.iter().any(Value::is_array) => {
                items.iter().map(text).flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
            }
            other => return self.set(&[name], other),
        };
        match REPEATED.iter().find(|(repeated, _)| *repeated == lower) {
            Some((_, count)) => {
                let lines: Vec<Value> = words.chunks(*count).map(|line| Value::from(line.to_vec())).collect();
                self.set(&[name], &Value::from(lines))
            }
            None => self.set(&[name], &Value::from(words)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_every_form_are_written_and_read() {
        let mut conf = RedisConf::parse("SAVE 900 1\nsave 300 10\nport 6379\nrename-command CONFIG ''\n");
        assert_eq!(conf.directive("save"), [["900", "1"], ["300", "10"]]);
        assert_eq!(
            (conf.last("PORT").as_deref(), conf.last("nope"), conf.last("rename-command").as_deref()),
            (Some("6379"), None, Some(""))
        );
        for (name, value) in [
            ("save", json!("60 5 30 7")),
            ("port", json!(7000)),
            ("appendonly", json!(true)),
            ("requirepass", json!("a b")),
            ("client-output-buffer-limit", json!(["normal 0 0 0", "replica 1mb 2mb 60"])),
            ("bind", json!("127.0.0.1 -::1")),
        ] {
            conf.set_directive(name, &value).unwrap();
        }
        assert_eq!(conf.directive("save"), [["60", "5"], ["30", "7"]]);
        assert_eq!(conf.directive("client-output-buffer-limit"), [["normal", "0", "0", "0"], ["replica", "1mb", "2mb", "60"]]);
        assert_eq!(
            (conf.directive("bind"), conf.last("appendonly").as_deref()),
            (vec![vec!["127.0.0.1".to_owned(), "-::1".to_owned()]], Some("yes"))
        );
        assert_eq!(conf.directive("requirepass"), [["a b"]]);
        conf.set_directive("save", &json!("")).unwrap();
        assert_eq!(conf.directive("save"), [[""]]);
        assert!(conf.set_directive("a b", &json!(1)).is_err() && conf.set_directive("x", &json!({})).is_err());
        assert!(conf.names().contains(&"save".to_owned()));
    }
}
