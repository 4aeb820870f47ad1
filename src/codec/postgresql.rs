//! `postgresql.conf`, as PostgreSQL reads it (guc-file.l).

use super::flat::{Entry, Flat, Syntax};
use crate::error::{Error, Result};

/// PostgreSQL's configuration file; of a setting that stands there several times, the last one counts.
pub type PostgreSqlConf = Flat<PostgreSqlSyntax>;

/// See [`PostgreSqlConf`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostgreSqlSyntax;

/// A line in its parts: everything up to the value, the value as it is written, what follows it.
struct Parts<'a> {
    name: &'a str,
    before: &'a str,
    token: &'a str,
    after: &'a str,
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r')
}

fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii())
    };
    let mut parts = name.split('.');
    parts.next().is_some_and(part) && parts.next().is_none_or(part) && parts.next().is_none()
}

/// Length of the value's token at the beginning of `text`.
fn token_length(text: &str) -> Option<usize> {
    let Some(inner) = text.strip_prefix('\'') else {
        let length = text.find(|c| is_blank(c) || c == '#').unwrap_or(text.len());
        let token = text.split_at(length).0;
        let valid = |c: char| c.is_ascii_alphanumeric() || "-+._:/$".contains(c) || !c.is_ascii();
        return (!token.is_empty() && token.chars().all(valid)).then_some(length);
    };
    let mut chars = inner.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()?),
            '\'' if chars.peek().is_some_and(|(_, next)| *next == '\'') => drop(chars.next()),
            '\'' => return Some(at + 2),
            _ => {}
        }
    }
    None
}

fn parts(line: &str) -> Option<Parts<'_>> {
    let text = line.trim_start_matches(is_blank);
    let name = text.split(|c| is_blank(c) || matches!(c, '=' | '#' | '\'')).next().filter(|name| is_name(name))?;
    let rest = text.strip_prefix(name)?.trim_start_matches(is_blank);
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start_matches(is_blank);
    let before = line.strip_suffix(rest)?;
    let (token, after) = rest.split_at(token_length(rest)?);
    let tail = after.trim_start_matches(is_blank);
    let separate = before.len() > line.len() - text.len() + name.len() || token.starts_with('\'');
    (separate && (tail.is_empty() || tail.starts_with('#'))).then_some(Parts { name, before, token, after })
}

/// What PostgreSQL makes of a value (`DeescapeQuotedString`).
fn unquote(token: &str) -> String {
    let Some(inner) = token.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) else { return token.to_owned() };
    let mut bytes = Vec::new();
    let mut rest = super::text::encode(inner).into_iter().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'\'' => {
                rest.next_if_eq(&b'\'');
                bytes.push(byte);
            }
            b'\\' => match rest.next() {
                Some(b'b') => bytes.push(8),
                Some(b'f') => bytes.push(0xc),
                Some(b'n') => bytes.push(b'\n'),
                Some(b'r') => bytes.push(b'\r'),
                Some(b't') => bytes.push(b'\t'),
                Some(first @ b'0'..=b'7') => {
                    let mut octal = u32::from(first - b'0');
                    for _ in 0..2 {
                        if let Some(digit) = rest.next_if(|byte| (b'0'..=b'7').contains(byte)) {
                            octal = octal * 8 + u32::from(digit - b'0');
                        }
                    }
                    bytes.extend(u8::try_from(octal & 0xff));
                }
                other => bytes.extend(other),
            },
            other => bytes.push(other),
        }
    }
    super::text::decode(&bytes)
}

fn quote(value: &str) -> Result<String> {
    if value.contains('\0') {
        return Err(Error::invalid("a value of PostgreSQL cannot hold NUL"));
    }
    let word = value.starts_with(|c: char| c.is_ascii_alphabetic()) && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let digits = value.strip_prefix('-').unwrap_or(value);
    let number = digits.starts_with(|c: char| c.is_ascii_digit()) && digits.chars().all(|c| c.is_ascii_digit());
    if word || number {
        return Ok(value.to_owned());
    }
    let mut quoted = String::from("'");
    for c in value.chars() {
        match c {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    Ok(quoted)
}

impl Syntax for PostgreSqlSyntax {
    const REPEATS: bool = false;

    fn read(line: &str) -> Option<Entry> {
        let parts = parts(line)?;
        // Directives, not settings.
        let include = ["include", "include_if_exists", "include_dir"].iter().any(|word| parts.name.eq_ignore_ascii_case(word));
        (!include).then(|| Entry { name: parts.name.to_owned(), args: vec![unquote(parts.token)] })
    }

    fn write(name: &str, args: &[String], old: Option<&str>) -> Result<String> {
        if !is_name(name) || !name.is_ascii() || name.to_ascii_lowercase().starts_with("include") {
            return Err(Error::invalid(format!("'{}' is not the name of a setting of PostgreSQL", name.escape_debug())));
        }
        let [value] = args else { return Err(Error::invalid(format!("'{name}' can have one value only"))) };
        let value = quote(value)?;
        Ok(match old.and_then(parts) {
            Some(parts) => format!("{}{value}{}", parts.before, parts.after),
            None => format!("{name} = {value}"),
        })
    }

    fn same(one: &str, other: &str) -> bool {
        one.eq_ignore_ascii_case(other)
    }

    fn word(flag: bool) -> &'static str {
        if flag { "on" } else { "off" }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::Document;
    use super::super::flat::tests::keeps_its_promises;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn comments_and_blanks_stay() {
        let mut file = PostgreSqlConf::parse(
            "#port = 1\n  Port 5432\t\t# (change requires restart)\nmax_connections=100 \nsearch_path = '\"$user\", public' # x\nport = 5433\ninclude_dir 'conf.d'\n\
             log_line_prefix = 'it''s \\'%m\\\\\\060'\n",
        );
        assert_eq!(file.get(&["port"]), Some(json!("5433")));
        assert_eq!(file.get(&["log_line_prefix"]), Some(json!("it's '%m\\0")));
        assert_eq!(file.get(&["include_dir"]), None);
        file.set(&["PORT"], &json!(6000)).unwrap();
        file.set(&["max_connections"], &json!("12")).unwrap();
        file.set(&["search_path"], &json!("a b")).unwrap();
        file.set(&["fsync"], &json!(false)).unwrap();
        assert_eq!(
            file.render(),
            "#port = 1\n  Port 5432\t\t# (change requires restart)\nmax_connections=12 \nsearch_path = 'a b' # x\nport = 6000\ninclude_dir 'conf.d'\n\
             log_line_prefix = 'it''s \\'%m\\\\\\060'\nfsync = off\n"
        );
        assert!(file.remove(&["port"]) && file.get(&["port"]).is_none());
        for bad in ["a b", "1a", "include", "a.b.c", ""] {
            assert!(file.set(&[bad], &json!(1)).is_err(), "{bad}");
        }
        assert!(file.set(&["x"], &json!("\u{0}")).is_err() && file.set(&["x"], &json!([["a"], ["b"]])).is_err());
    }

    proptest! {
        #[test]
        fn promises(text in "(#|include|port|=|'|\\\\|1|x\\.y|\\PC| |\t|\r|\n|\r\n){0,40}", value in any::<String>()) {
            keeps_its_promises::<PostgreSqlConf>(&text, &["log_line_prefix"], &value);
        }
    }
}
