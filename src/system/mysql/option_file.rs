//! MySQL's option files (`my.cnf`): a codec that keeps every line it does not change, and the quoting of values.

use std::fmt;

use crate::error::{Error, Result};

/// One line of an option file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Group(String),
    Option {
        name: String,
        value: Option<String>,
    },
    Include(String),
    /// Comments and blank lines, and what no server would understand.
    Other(String),
}

/// An option file, line by line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OptionFile {
    lines: Vec<Line>,
}

/// `innodb-buffer-pool-size` and `innodb_buffer_pool_size` are one option.
pub(crate) fn normalize(name: &str) -> String {
    name.trim_start_matches('-').replace('-', "_")
}

/// True for the groups a server reads itself: `[mysqld]`, `[server]`, `[mariadb-10.11]`, ...
pub(crate) fn is_server_group(group: &str) -> bool {
    let base =
        group.split_once('-').filter(|(_, version)| version.starts_with(|c: char| c.is_ascii_digit())).map_or(group, |(base, _)| base);
    matches!(base, "mysqld" | "server" | "mariadb" | "mariadbd" | "mysql_cluster")
}

/// A value as it stands after `name =`.
///
/// # Errors
/// It holds a control character: an option is one line.
pub(crate) fn quote_value(value: &str) -> Result<String> {
    if let Some(bad) = value.chars().find(|c| c.is_control()) {
        return Err(Error::invalid(format!("an option's value must not hold the control character {bad:?}")));
    }
    let plain = |c: char| c.is_alphanumeric() || "_./:,=+-@%* ".contains(c);
    if !value.is_empty() && value.trim() == value && value.chars().all(plain) {
        return Ok(value.to_owned());
    }
    Ok(format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// What the server makes of the text after `name =`: comment, blanks and one pair of quotes go, escapes are resolved.
fn unquote_value(text: &str) -> String {
    let text = strip_comment(text).trim();
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = quote.and_then(|quote| text.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(text);
    let mut value = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.clone().next() } else { None }) {
            ('\\', Some(next)) => {
                chars.next();
                match next {
                    'n' => value.push('\n'),
                    't' => value.push('\t'),
                    'r' => value.push('\r'),
                    'b' => value.push('\u{8}'),
                    's' => value.push(' '),
                    '"' | '\'' | '\\' => value.push(next),
                    other => value.extend(['\\', other]),
                }
            }
            (c, _) => value.push(c),
        }
    }
    value
}

/// Cuts off a `#` comment that is not inside quotes.
fn strip_comment(text: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' | '\'' if !escaped && quote.is_none_or(|open| open == c) => quote = if quote.is_some() { None } else { Some(c) },
            '#' if quote.is_none() => return text.split_at(at).0,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    text
}

impl OptionFile {
    /// Reads any text.
    pub(crate) fn parse(text: &str) -> OptionFile {
        let line = |raw: &str| {
            let text = raw.trim();
            if text.is_empty() || text.starts_with(['#', ';']) {
                return Line::Other(raw.trim_end().to_owned());
            }
            if text.starts_with("!include") {
                return Line::Include(text.to_owned());
            }
            if let Some(group) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                return Line::Group(group.0.trim().to_owned());
            }
            match text.split_once('=') {
                Some((name, value)) => Line::Option { name: name.trim().to_owned(), value: Some(unquote_value(value)) },
                None => Line::Option { name: strip_comment(text).trim().to_owned(), value: None },
            }
        };
        OptionFile { lines: text.lines().map(line).collect() }
    }

    /// A file of one group.
    pub(crate) fn of_group(group: &str) -> OptionFile {
        OptionFile { lines: vec![Line::Group(group.to_owned())] }
    }

    /// Every option with its group; those before any group have an empty one.
    pub(crate) fn options(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        let mut group = "";
        self.lines.iter().filter_map(move |line| match line {
            Line::Group(name) => {
                group = name;
                None
            }
            Line::Option { name, value } => Some((group, name.as_str(), value.as_deref())),
            Line::Include(_) | Line::Other(_) => None,
        })
    }

    /// The last value of an option in any of `groups` (the one that counts): `None` when it is not there, `Some(None)` when
    /// it stands there without a value.
    pub(crate) fn last(&self, groups: &[&str], name: &str) -> Option<Option<String>> {
        let wanted = normalize(name);
        let found = self.options().filter(|(group, name, _)| groups.contains(group) && normalize(name) == wanted);
        found.last().map(|(_, _, value)| value.map(str::to_owned))
    }

    /// Lines that include other files.
    pub(crate) fn includes(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| match line {
            Line::Include(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Leaves exactly one include, at the end: what the directory holds comes after what the file holds.
    pub(crate) fn set_include_directory(&mut self, directory: &str) {
        self.lines.retain(|line| !matches!(line, Line::Include(_)));
        self.lines.push(Line::Include(format!("!includedir {directory}")));
    }

    /// Changes names of options of the server's groups: `rename` gives the new one.
    pub(crate) fn rename_server_options(&mut self, mut rename: impl FnMut(&str) -> Option<String>) {
        let mut in_server = false;
        for line in &mut self.lines {
            match line {
                Line::Group(group) => in_server = is_server_group(group),
                Line::Option { name, .. } if in_server => {
                    if let Some(new) = rename(name) {
                        *name = new;
                    }
                }
                _ => {}
            }
        }
    }

    /// Sets an option of the last group of this file, in place or at the end.
    pub(crate) fn set(&mut self, name: &str, value: Option<String>) {
        let wanted = normalize(name);
        self.lines.retain(|line| !matches!(line, Line::Option { name, .. } if normalize(name) == wanted));
        self.lines.push(Line::Option { name: name.to_owned(), value });
    }

    /// The file's text.
    ///
    /// # Errors
    /// A value holds a control character.
    pub(crate) fn render(&self) -> Result<String> {
        let mut text = String::new();
        for line in &self.lines {
            match line {
                Line::Group(name) => text.push_str(&format!("[{name}]")),
                Line::Option { name, value: Some(value) } => text.push_str(&format!("{name} = {}", quote_value(value)?)),
                Line::Option { name, value: None } => text.push_str(name),
                Line::Include(raw) | Line::Other(raw) => text.push_str(raw),
            }
            text.push('\n');
        }
        Ok(text)
    }
}

impl fmt::Display for OptionFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines", self.lines.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEMPLATE: &str = "[client]\nport = 3306\n\n[mysqld]\n# a comment\nskip-name-resolve\ninnodb_log_file_size=50M # tail\n\
        init_connect = 'SET x = \"#\"'\n\n!includedir /etc/mysql/conf.d/\n!includedir /elsewhere/\n[mysqldump]\nquick = 1\n";

    #[test]
    fn lines_survive_and_one_include_is_left() {
        let mut file = OptionFile::parse(TEMPLATE);
        file.set_include_directory("/x/conf.d/");
        let text = file.render().unwrap();
        assert!(
            text.starts_with("[client]\nport = 3306\n\n[mysqld]\n# a comment\nskip-name-resolve\ninnodb_log_file_size = 50M\n"),
            "{text}"
        );
        assert!(text.ends_with("[mysqldump]\nquick = 1\n!includedir /x/conf.d/\n"), "{text}");
        assert_eq!(text.matches("!include").count(), 1);
        assert_eq!(OptionFile::parse(&text).last(&["mysqld"], "init-connect"), Some(Some("SET x = \"#\"".to_owned())));
        assert_eq!(file.last(&["mysqld"], "skip_name_resolve"), Some(None));
        assert_eq!(file.last(&["client"], "skip_name_resolve"), None);
    }

    #[test]
    fn renaming_touches_the_servers_groups_alone() {
        let mut file = OptionFile::parse("[mysqldump]\nquick\n[mysqld-9.7]\nquick\n[mysqld_safe]\nquick\n");
        file.rename_server_options(|name| Some(format!("loose-{name}")));
        assert_eq!(file.render().unwrap(), "[mysqldump]\nquick\n[mysqld-9.7]\nloose-quick\n[mysqld_safe]\nquick\n");
    }

    #[test]
    fn setting_replaces_whatever_the_spelling() {
        let mut file = OptionFile::of_group("mysqld");
        file.set("max-connections", Some("10".to_owned()));
        file.set("max_connections", Some("20".to_owned()));
        assert_eq!(file.render().unwrap(), "[mysqld]\nmax_connections = 20\n");
        assert!(quote_value("a\nb").is_err());
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in "[^\\p{Cc}]{0,80}") {
            let mut file = OptionFile::of_group("mysqld");
            file.set("x", Some(value.clone()));
            let read = OptionFile::parse(&file.render().unwrap());
            prop_assert_eq!(read.last(&["mysqld"], "x"), Some(Some(value)));
        }
    }
}
