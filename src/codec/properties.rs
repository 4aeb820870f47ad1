//! Java's property files, as `java.util.Properties` reads them.

use super::flat::{Entry, Flat, Syntax};
use crate::error::{Error, Result};

/// A property file; of a property that stands there several times, the last one counts.
pub type Properties = Flat<PropertySyntax>;

/// See [`Properties`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PropertySyntax;

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// True when the line goes on in the next: an odd number of backslashes at its end.
fn goes_on(line: &str) -> bool {
    !is_comment(line) && (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

fn is_comment(line: &str) -> bool {
    line.trim_start_matches(is_blank).starts_with(['#', '!'])
}

/// The first line of a text, and the length of what ends it.
fn first_line(text: &str) -> (usize, usize) {
    let length = text.find(['\n', '\r']).unwrap_or(text.len());
    let rest = text.split_at(length).1;
    (length, if rest.starts_with("\r\n") { 2 } else { usize::from(!rest.is_empty()) })
}

/// Key, and where the value begins.
fn split_key(line: &str) -> (&str, usize) {
    let mut escaped = false;
    let end = line.find(|c| {
        let ends = !escaped && (is_blank(c) || matches!(c, '=' | ':' | '\n' | '\r'));
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    // A line that goes on has its backslash, its end and the blanks of the next line in between.
    let blank = |c: char| is_blank(c);
    let rest = rest.trim_start_matches(blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(blank);
    (key, line.len() - rest.len())
}

/// Puts lines that go on together.
fn logical(lines: &str) -> String {
    let mut text = String::with_capacity(lines.len());
    let mut rest = lines;
    while !rest.is_empty() {
        let (length, end) = first_line(rest);
        let (line, tail) = rest.split_at(length);
        let line = line.trim_start_matches(is_blank);
        let more = goes_on(line) || (text.is_empty() && goes_on(line));
        text.push_str(if more { line.strip_suffix('\\').unwrap_or(line) } else { line });
        rest = tail.split_at(end).1;
    }
    text
}

/// Resolves escapes; `None` when a `\u` is not followed by four digits, which Java refuses.
fn unescape(text: &str) -> Option<String> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let mut unit = |c: char| units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        if c != '\\' {
            unit(c);
            continue;
        }
        match chars.next() {
            Some('t') => unit('\t'),
            Some('n') => unit('\n'),
            Some('r') => unit('\r'),
            Some('f') => unit('\u{c}'),
            Some('u') => {
                let mut code = 0;
                for _ in 0..4 {
                    code = code * 16 + chars.next()?.to_digit(16)?;
                }
                units.extend(u16::try_from(code));
            }
            Some(other) => unit(other),
            None => {}
        }
    }
    String::from_utf16(&units).ok()
}

fn escape(text: &str, is_key: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (index, c) in text.chars().enumerate() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\u{c}' => escaped.push_str("\\f"),
            ' ' if is_key || index == 0 => escaped.push_str("\\ "),
            '=' | ':' | '#' | '!' if is_key => escaped.extend(['\\', c]),
            // Java reads Latin-1: everything else has a way of its own.
            ' '..='~' => escaped.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    escaped
}

impl Syntax for PropertySyntax {
    const REPEATS: bool = false;

    fn cut(text: &str) -> Vec<(&str, &str)> {
        let mut lines = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (mut length, mut end) = first_line(rest);
            let mut start = 0;
            // A blank line or a comment never goes on.
            while end > 0 && goes_on(rest.split_at(length).0.split_at(start).1) && !is_comment(rest.split_at(length).0) {
                start = length + end;
                let (more, next_end) = first_line(rest.split_at(start).1);
                (length, end) = (start + more, next_end);
            }
            let (line, tail) = rest.split_at(length);
            let (end, tail) = tail.split_at(end);
            lines.push((line, end));
            rest = tail;
        }
        lines
    }

    fn read(line: &str) -> Option<Entry> {
        if is_comment(line) {
            return None;
        }
        let text = logical(line);
        let (key, value) = split_key(&text);
        let name = unescape(key).filter(|_| !text.is_empty())?;
        Some(Entry { name, args: vec![unescape(text.split_at(value).1)?] })
    }

    fn write(name: &str, args: &[String], old: Option<&str>) -> Result<String> {
        let [value] = args else { return Err(Error::invalid(format!("'{}' can have one value only", name.escape_debug()))) };
        let value = escape(value, false);
        // A key or a value over several lines is written anew.
        let before = old.filter(|old| !old.contains(['\n', '\r'])).map(|old| {
            let indent = old.len() - old.trim_start_matches(is_blank).len();
            let (_, start) = split_key(old.split_at(indent).1);
            old.split_at(indent + start).0
        });
        Ok(before
            .filter(|before| before.contains(['=', ':']))
            .map_or_else(|| format!("{}={value}", escape(name, true)), |before| format!("{before}{value}")))
    }

    fn same(one: &str, other: &str) -> bool {
        one == other
    }

    fn word(flag: bool) -> &'static str {
        if flag { "true" } else { "false" }
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
    fn lines_that_go_on_are_one() {
        let mut file = Properties::parse("# c \\\n! d\r\n dc : one\\\n    two \\\\\nrack=r\\u0041\\\r\n\nprefer_local\\ x true\rlast");
        assert_eq!(file.get(&["dc"]), Some(json!("onetwo \\")));
        assert_eq!(file.get(&["rack"]), Some(json!("rA")));
        assert_eq!(file.get(&["prefer_local x"]), Some(json!("true")));
        assert_eq!(file.get(&["last"]), Some(json!("")));
        file.set(&["dc"], &json!(" a b ")).unwrap();
        file.set(&["rack"], &json!("ü=")).unwrap();
        file.set(&["a:b"], &json!(true)).unwrap();
        assert_eq!(file.render(), "# c \\\n! d\r\ndc=\\ a b \nrack=\\u00fc=\nprefer_local\\ x true\rlast\na\\:b=true\n");
        assert!(file.set(&["x"], &json!([["a"], ["b"]])).is_err());
    }

    proptest! {
        #[test]
        fn promises(text in "(#|!|key|=|:|\\\\|u0041|x|\\PC| |\t|\r|\n|\r\n){0,40}", value in any::<String>(), name in "[a-z =:#\\\\]{1,6}") {
            keeps_its_promises::<Properties>(&text, &[&name], &value);
        }
    }
}
