//! MySQL's and MariaDB's option files (`my.cnf`), read as the servers read them (mysys/my_default.c).

use serde_json::Value;

use super::document::Document;
use super::lines::Lines;
use crate::error::{Error, Result};

/// The servers read a line into 4096 bytes, and take the rest for another line.
const MAX_LINE: usize = 4000;

/// What one line of an option file means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Group(String),
    Option {
        name: String,
        value: Option<String>,
    },
    Include,
    /// Comments and blank lines, and what no server would understand.
    Other,
}

/// An option file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionFile {
    lines: Lines<Meaning>,
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

/// C's `isspace`, which is not Unicode's.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// A value as it stands after `name =`.
///
/// # Errors
/// It holds a control character that has no escape.
pub(crate) fn quote_value(value: &str) -> Result<String> {
    if let Some(bad) = value.chars().find(|c| c.is_control() && !"\n\t\r\u{8}".contains(*c)) {
        return Err(Error::invalid(format!("an option's value must not hold the control character {bad:?}")));
    }
    let plain = |c: char| c.is_alphanumeric() || "_./:,=+-@%* ".contains(c);
    if !value.is_empty() && value.trim_matches(is_space) == value && value.chars().all(plain) {
        return Ok(value.to_owned());
    }
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        match c {
            '\\' | '"' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\u{8}' => quoted.push_str("\\b"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

/// What the server makes of a value: one pair of quotes goes, escapes are resolved.
fn unquote_value(text: &str) -> String {
    let text = text.trim_matches(is_space);
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

/// Splits off a `#` comment that is not inside quotes (`remove_end_comment`).
fn split_comment(text: &str) -> (&str, &str) {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' | '\'' if !escaped && quote.is_none_or(|open| open == c) => quote = if quote.is_some() { None } else { Some(c) },
            '#' if quote.is_none() => return text.split_at(at),
            _ => {}
        }
        escaped = quote.is_some() && c == '\\' && !escaped;
    }
    (text, "")
}

fn meaning(line: &str) -> Meaning {
    let text = line.trim_start_matches(is_space);
    if text.is_empty() || text.starts_with(['#', ';']) {
        return Meaning::Other;
    }
    if text.starts_with('!') {
        return if text.starts_with("!include") { Meaning::Include } else { Meaning::Other };
    }
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']').map_or(Meaning::Other, |(name, _)| Meaning::Group(name.trim_end_matches(is_space).to_owned()));
    }
    let (text, _) = split_comment(text);
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(unquote_value(value))),
        None => (text, None),
    };
    Meaning::Option { name: name.trim_end_matches(is_space).to_owned(), value }
}

/// The line with another value: indentation, spelling, blanks and comment of the old one stay.
fn with_value(old: &str, value: &str) -> String {
    let (text, comment) = split_comment(old);
    let Some((name, rest)) = text.split_once('=') else {
        let name = text.trim_end_matches(is_space);
        let blanks = text.strip_prefix(name).unwrap_or_default();
        return format!("{name} = {value}{blanks}{comment}");
    };
    let kept = rest.trim_start_matches(is_space);
    let before = rest.strip_suffix(kept).unwrap_or_default();
    let after = kept.strip_prefix(kept.trim_end_matches(is_space)).unwrap_or_default();
    format!("{name}={before}{value}{after}{comment}")
}

/// The values of one option in JSON: text, `null` (no value), or a list of them.
fn values_of(name: &str, value: &Value) -> Result<Vec<Option<String>>> {
    let one = |value: &Value| match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(u8::from(*flag).to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(_) | Value::Object(_) => {
            Err(Error::invalid(format!("the value of option '{name}' is neither text, number nor boolean")))
        }
    };
    match value {
        Value::Array(values) if !values.is_empty() => values.iter().map(one).collect(),
        other => one(other).map(|value| vec![value]),
    }
}

impl OptionFile {
    /// A file of one group.
    pub fn of_group(group: &str) -> OptionFile {
        OptionFile::parse(&format!("[{group}]\n"))
    }

    /// Every line with the group it is in.
    fn places(&self) -> impl Iterator<Item = (usize, &str, &Meaning)> {
        let mut group = "";
        self.lines.iter().enumerate().map(move |(at, line)| {
            if let Meaning::Group(name) = &line.meaning {
                group = name;
            }
            (at, group, &line.meaning)
        })
    }

    /// Every option with its group; those before any group have an empty one.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        self.places().filter_map(|(_, group, meaning)| match meaning {
            Meaning::Option { name, value } => Some((group, name.as_str(), value.as_deref())),
            _ => None,
        })
    }

    /// Options of the groups a server reads, by [`normalize`]d name; the last one counts.
    pub fn server_options(&self) -> impl Iterator<Item = (String, Option<&str>)> {
        self.options().filter(|(group, ..)| is_server_group(group)).map(|(_, name, value)| (normalize(name), value))
    }

    /// The last value of an option in any of `groups` (the one that counts): `None` when it is not there, `Some(None)` when
    /// it stands there without a value.
    pub fn last(&self, groups: &[&str], name: &str) -> Option<Option<String>> {
        let wanted = normalize(name);
        let found = self.options().filter(|(group, name, _)| groups.contains(group) && normalize(name) == wanted);
        found.last().map(|(_, _, value)| value.map(str::to_owned))
    }

    /// Lines that include other files.
    pub fn includes(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(|line| line.meaning == Meaning::Include).map(|line| line.text().trim_matches(is_space))
    }

    /// Leaves exactly one include, at the end: what the directory holds comes after what the file holds.
    pub fn set_include_directory(&mut self, directory: &str) {
        let wanted = format!("!includedir {directory}");
        let last = self.lines.len().checked_sub(1);
        let mut stands = false;
        for at in (0..self.lines.len()).rev() {
            let Some(line) = self.lines.get(at).filter(|line| line.meaning == Meaning::Include) else { continue };
            if Some(at) == last && line.text() == wanted {
                stands = true;
            } else {
                self.lines.remove(at);
            }
        }
        if !stands {
            self.lines.insert(self.lines.len(), &wanted, Meaning::Include);
        }
    }

    /// Changes names of options of the server's groups: `rename` gives the new one.
    pub fn rename_server_options(&mut self, mut rename: impl FnMut(&str) -> Option<String>) {
        let places = self.places().filter(|(_, group, _)| is_server_group(group));
        let named: Vec<(usize, String)> = places
            .filter_map(|(at, _, meaning)| match meaning {
                Meaning::Option { name, .. } => rename(name).map(|new| (at, new)),
                _ => None,
            })
            .collect();
        for (at, new) in named {
            let Some(line) = self.lines.get(at) else { continue };
            let Meaning::Option { name, .. } = &line.meaning else { continue };
            let text = line.text().replacen(name.as_str(), &new, 1);
            let meaning = meaning(&text);
            self.lines.replace(at, &text, meaning);
        }
    }

    fn occurrences(&self, group: &str, name: &str) -> Vec<usize> {
        let wanted = normalize(name);
        let places = self.places().filter(|(_, at, _)| *at == group);
        places
            .filter(|(_, _, meaning)| matches!(meaning, Meaning::Option { name, .. } if normalize(name) == wanted))
            .map(|(at, ..)| at)
            .collect()
    }

    /// Where another option of a group goes: after its last line that is not blank, or after a new head at the end of the file.
    fn end_of_group(&mut self, group: &str) -> usize {
        let inside = self.places().filter(|(at, name, meaning)| {
            let blank = self.lines.get(*at).is_none_or(|line| line.text().trim_matches(is_space).is_empty());
            // An option after the include would come after what is included.
            *name == group && !blank && **meaning != Meaning::Include
        });
        if let Some((at, ..)) = inside.filter(|(_, name, _)| !name.is_empty()).last() {
            return at + 1;
        }
        let includes = self.lines.iter().rposition(|line| line.meaning != Meaning::Include).map_or(0, |at| at + 1);
        self.lines.insert(includes, &format!("[{group}]"), Meaning::Group(group.to_owned()));
        includes + 1
    }

    /// Gives an option of a group exactly these values: one line each, the first ones in the places of the old.
    ///
    /// # Errors
    /// A name or value that a line cannot hold; nothing has changed then.
    pub fn set_option(&mut self, group: &str, name: &str, values: &[Option<String>]) -> Result<()> {
        check_name("group", group)?;
        check_name("option", name)?;
        let quoted = values.iter().map(|value| value.as_deref().map(quote_value).transpose()).collect::<Result<Vec<_>>>()?;
        if quoted.iter().flatten().any(|text| name.len() + text.len() > MAX_LINE) {
            return Err(Error::invalid(format!(
                "the value of the option '{name}' is longer than {MAX_LINE} bytes: no server reads such a line"
            )));
        }
        let old = self.occurrences(group, name);
        for (index, (value, quoted)) in values.iter().zip(&quoted).enumerate() {
            let plain = quoted.as_ref().map_or_else(|| name.to_owned(), |value| format!("{name} = {value}"));
            if let Some(at) = old.get(index) {
                self.change(*at, &plain, value.as_deref(), quoted.as_deref());
            } else {
                let at = self.occurrences(group, name).last().map_or_else(|| self.end_of_group(group), |last| last + 1);
                self.lines.insert(at, &plain, meaning(&plain));
            }
        }
        old.iter().skip(values.len()).rev().for_each(|at| self.lines.remove(*at));
        Ok(())
    }

    /// Gives the option of a line another value; the line becomes `plain` where nothing of it can stay.
    fn change(&mut self, at: usize, plain: &str, value: Option<&str>, quoted: Option<&str>) {
        let has_value = |meaning: &Meaning| matches!(meaning, Meaning::Option { value: now, .. } if now.as_deref() == value);
        let Some(line) = self.lines.get(at).filter(|line| !has_value(&line.meaning)) else { return };
        let kept = quoted.map(|quoted| with_value(line.text(), quoted)).filter(|text| text.len() <= MAX_LINE && has_value(&meaning(text)));
        let text = kept.as_deref().unwrap_or(plain);
        self.lines.replace(at, text, meaning(text));
    }

    /// Removes an option from a group; false when it was not there.
    pub fn remove_option(&mut self, group: &str, name: &str) -> bool {
        let old = self.occurrences(group, name);
        old.iter().rev().for_each(|at| self.lines.remove(*at));
        !old.is_empty()
    }
}

/// Nothing in a name that a file or a statement could misread.
pub(crate) fn check_name(kind: &str, name: &str) -> Result<()> {
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if valid { Ok(()) } else { Err(Error::invalid(format!("'{}' is not the name of an {kind}", name.escape_debug()))) }
}

fn group_and_name<'a>(path: &[&'a str]) -> Result<(&'a str, &'a str)> {
    match path {
        [group, name] => Ok((group, name)),
        _ => Err(Error::invalid("an option of an option file is named by its group and its name")),
    }
}

impl Document for OptionFile {
    fn parse(text: &str) -> OptionFile {
        OptionFile { lines: Lines::parse(text, meaning) }
    }

    fn render(&self) -> String {
        self.lines.render()
    }

    fn settings(&self) -> Vec<(Vec<String>, Value)> {
        let mut settings: Vec<(Vec<String>, Value)> = Vec::new();
        for (group, name, _) in self.options() {
            let same = |path: &[String]| path[0] == group && normalize(&path[1]) == normalize(name);
            settings.retain(|(path, _)| !same(path));
            settings.extend(self.get(&[group, name]).map(|value| (vec![group.to_owned(), name.to_owned()], value)));
        }
        settings
    }

    fn get(&self, path: &[&str]) -> Option<Value> {
        let (group, name) = group_and_name(path).ok()?;
        let values: Vec<Value> = self
            .occurrences(group, name)
            .into_iter()
            .filter_map(|at| match &self.lines.get(at)?.meaning {
                Meaning::Option { value, .. } => Some(value.as_deref().map_or(Value::Null, Value::from)),
                _ => None,
            })
            .collect();
        if values.len() > 1 { Some(Value::Array(values)) } else { values.into_iter().next() }
    }

    fn set(&mut self, path: &[&str], value: &Value) -> Result<()> {
        let (group, name) = group_and_name(path)?;
        self.set_option(group, name, &values_of(name, value)?)
    }

    fn remove(&mut self, path: &[&str]) -> bool {
        group_and_name(path).is_ok_and(|(group, name)| self.remove_option(group, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const TEMPLATE: &str = "[client]\nport = 3306\n\n[mysqld]\n# a comment\nskip-name-resolve\ninnodb_log_file_size=50M # tail\n\
        init_connect = 'SET x = \"#\"'\n\n!includedir /etc/mysql/conf.d/\n!includedir /elsewhere/\n[mysqldump]\nquick = 1\n";

    #[test]
    fn lines_survive_and_one_include_is_left() {
        let mut file = OptionFile::parse(TEMPLATE);
        file.set_include_directory("/x/conf.d/");
        let text = file.render();
        assert!(
            text.starts_with("[client]\nport = 3306\n\n[mysqld]\n# a comment\nskip-name-resolve\ninnodb_log_file_size=50M # tail\n"),
            "{text}"
        );
        assert!(text.ends_with("[mysqldump]\nquick = 1\n!includedir /x/conf.d/\n"), "{text}");
        assert_eq!(text.matches("!include").count(), 1);
        assert_eq!(OptionFile::parse(&text).last(&["mysqld"], "init-connect"), Some(Some("SET x = \"#\"".to_owned())));
        assert_eq!(file.last(&["mysqld"], "skip_name_resolve"), Some(None));
        assert_eq!(file.last(&["client"], "skip_name_resolve"), None);
        let before = file.clone();
        file.set_include_directory("/x/conf.d/");
        assert_eq!(file, before);
    }

    #[test]
    fn renaming_touches_the_servers_groups_alone() {
        let mut file = OptionFile::parse("[mysqldump]\nquick\n[mysqld-9.7]\n  quick=1 # x\n[mysqld_safe]\nquick\n");
        file.rename_server_options(|name| Some(format!("loose-{name}")));
        assert_eq!(file.render(), "[mysqldump]\nquick\n[mysqld-9.7]\n  loose-quick=1 # x\n[mysqld_safe]\nquick\n");
    }

    #[test]
    fn a_change_touches_its_own_lines() {
        let mut file = OptionFile::parse(
            "[mysqld]\r\n\tmax-connections=5\t# few\r\n;x\r\nreplicate-do-db = a\r\nreplicate_do_db = b\r\n\r\n[client]\r\nmax_connections = 9",
        );
        file.set(&["mysqld", "max_connections"], &json!(10)).unwrap();
        file.set(&["mysqld", "replicate_do_db"], &json!(["a", "c d#", "e"])).unwrap();
        file.set(&["mysqld", "new"], &json!(null)).unwrap();
        let text = "[mysqld]\r\n\tmax-connections=10\t# few\r\n;x\r\nreplicate-do-db = a\r\nreplicate_do_db = \"c d#\"\r\n\
            replicate_do_db = e\r\nnew\r\n\r\n[client]\r\nmax_connections = 9";
        assert_eq!(file.render(), text);
        assert_eq!(file.get(&["mysqld", "replicate-do-db"]), Some(json!(["a", "c d#", "e"])));
        file.set(&["mysqld", "replicate_do_db"], &json!("z")).unwrap();
        assert!(file.remove(&["mysqld", "MAX-connections"]) == file.remove(&["mysqld", "nothing"]));
        assert!(file.remove(&["mysqld", "max_connections"]));
        file.set(&["other", "x"], &json!(true)).unwrap();
        assert_eq!(
            file.render(),
            "[mysqld]\r\n;x\r\nreplicate-do-db = z\r\nnew\r\n\r\n[client]\r\nmax_connections = 9\r\n[other]\r\nx = 1\r\n"
        );
    }

    #[test]
    fn what_a_line_cannot_hold_is_refused_and_changes_nothing() {
        let mut file = OptionFile::of_group("mysqld");
        for (path, value) in [
            (["mysqld", "a\nb"], json!(1)),
            (["mysqld]\n[x", "a"], json!(1)),
            (["mysqld", ""], json!(1)),
            (["mysqld", "a"], json!({"a": 1})),
            (["mysqld", "a"], json!("x\u{0}")),
            (["mysqld", "a"], json!("x".repeat(5000))),
            (["mysqld", "a"], json!(["good", "\u{1b}"])),
        ] {
            assert!(file.set(&path, &value).is_err(), "{path:?} {value}");
            assert_eq!(file, OptionFile::of_group("mysqld"));
        }
        assert!(quote_value("a\u{7f}").is_err());
    }

    #[test]
    fn new_groups_and_options_come_before_the_include() {
        let mut file = OptionFile::parse("[mysqld]\n!includedir /x\n");
        file.set(&["mysqld", "a"], &json!(1)).unwrap();
        file.set(&["client", "b"], &json!(2)).unwrap();
        assert_eq!(file.render(), "[mysqld]\na = 1\n[client]\nb = 2\n!includedir /x\n");
    }

    fn any_text() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            Just("[mysqld]".to_owned()),
            Just("\n".to_owned()),
            Just("\r\n".to_owned()),
            Just("=".to_owned()),
            Just("#".to_owned()),
            Just("!include".to_owned()),
            Just("\\".to_owned()),
            Just("\"".to_owned()),
            Just("x = 1\n".to_owned()),
            "\\PC{0,8}",
            any::<String>()
        ];
        proptest::collection::vec(pieces, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_text_is_kept(text in any_text()) {
            prop_assert_eq!(OptionFile::parse(&text).render(), text);
        }

        #[test]
        fn any_value_comes_back_from_any_file(text in any_text(), value in "[^\\p{Cc}]{0,80}|[\\n\\t\\r#\"'\\\\;= x]{0,20}") {
            let before = OptionFile::parse(&text);
            let mut file = before.clone();
            file.set(&["mysqld", "x"], &Value::from(value.clone())).unwrap();
            let read = OptionFile::parse(&file.render());
            prop_assert_eq!(&read, &file);
            prop_assert_eq!(read.get(&["mysqld", "x"]), Some(Value::from(value)));
            // Everything else is as it was.
            let others = |file: &OptionFile| file.settings().into_iter().filter(|(path, _)| path[0] != "mysqld" || normalize(&path[1]) != "x").collect::<Vec<_>>();
            prop_assert_eq!(others(&read), others(&before));
            file.remove(&["mysqld", "x"]);
            prop_assert_eq!(file.get(&["mysqld", "x"]), None);
        }
    }
}
