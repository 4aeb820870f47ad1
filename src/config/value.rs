//! The types of options: text to a value, the way oslo_config/types.py converts it.

use std::fmt::Write as _;

use secrecy::{ExposeSecret, SecretString};

use super::ini::is_space;

/// Type of an option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Text, as it stands.
    Text,
    /// A path; like text.
    Path,
    /// `true/1/on/yes` or `false/0/off/no`, whatever the case.
    Bool,
    /// A whole number within bounds. Blank text is no value.
    Int(i64, i64),
    /// A number within bounds. Blank text is no value.
    Float(f64, f64),
    /// Items separated by commas.
    List,
    /// `key:value` pairs separated by commas.
    Dict,
    /// One of these words, whatever the case.
    Choice(&'static [&'static str]),
    /// Text that may be given several times; all count.
    Multi,
}

impl Kind {
    /// Name for the documentation.
    pub fn label(self) -> String {
        match self {
            Kind::Text => "text".into(),
            Kind::Path => "path".into(),
            Kind::Bool => "boolean".into(),
            Kind::Int(..) => "integer".into(),
            Kind::Float(..) => "number".into(),
            Kind::List => "list".into(),
            Kind::Dict => "dictionary".into(),
            Kind::Choice(words) => words.iter().copied().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", "),
            Kind::Multi => "text, repeatable".into(),
        }
    }
}

/// Value of an option.
#[derive(Debug, Clone)]
pub enum Value {
    /// Not set, and without a default; or a number left blank.
    Missing,
    /// Text. Always wrapped, since the type does not tell whether it is a credential.
    Text(SecretString),
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Items.
    List(Vec<String>),
    /// Pairs in the order given.
    Dict(Vec<(String, String)>),
    /// Every text given, earliest file first.
    Multi(Vec<SecretString>),
}

impl Value {
    /// Converts `text` to the type `kind`.
    ///
    /// # Errors
    /// What the text should have been; the text itself is not quoted.
    pub fn convert(kind: Kind, text: &str) -> Result<Value, String> {
        match kind {
            Kind::Text | Kind::Path => Ok(Value::Text(SecretString::from(text))),
            Kind::Multi => Ok(Value::Multi(vec![SecretString::from(text)])),
            Kind::Bool => boolean(text),
            Kind::Int(min, max) => integer(text, min, max),
            Kind::Float(min, max) => float(text, min, max),
            Kind::List => Ok(Value::List(list(text))),
            Kind::Dict => dict(text).map(Value::Dict),
            Kind::Choice(words) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(text))
                .map(|word| Value::Text(SecretString::from(*word)))
                .ok_or_else(|| format!("must be one of {}", words.join(", "))),
        }
    }

    /// The text Python's `str()` makes of the value, which is what `$name` inserts.
    pub fn python_text(&self) -> String {
        match self {
            Value::Missing => String::new(),
            Value::Text(text) => text.expose_secret().to_owned(),
            Value::Bool(true) => "True".into(),
            Value::Bool(false) => "False".into(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => python_float(*number),
            Value::List(items) => format!("[{}]", items.iter().map(|item| repr(item)).collect::<Vec<_>>().join(", ")),
            Value::Multi(items) => format!("[{}]", items.iter().map(|item| repr(item.expose_secret())).collect::<Vec<_>>().join(", ")),
            Value::Dict(pairs) => {
                format!("{{{}}}", pairs.iter().map(|(key, value)| format!("{}: {}", repr(key), repr(value))).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// The value in the words of a configuration file, for the operator.
    pub fn file_text(&self) -> String {
        match self {
            Value::Missing => "(not set)".into(),
            Value::Text(text) => text.expose_secret().to_owned(),
            Value::Bool(flag) => flag.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::List(items) => items.join(","),
            Value::Multi(items) => items.iter().map(|item| item.expose_secret()).collect::<Vec<_>>().join(" | "),
            Value::Dict(pairs) => pairs.iter().map(|(key, value)| format!("{key}:{value}")).collect::<Vec<_>>().join(","),
        }
    }
}

fn boolean(text: &str) -> Result<Value, String> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(Value::Bool(true)),
        "false" | "0" | "off" | "no" => Ok(Value::Bool(false)),
        _ => Err("must be true, 1, on, yes or false, 0, off, no".into()),
    }
}

/// A whole number as Python's `int()` reads it: a sign, and underscores between digits.
pub(super) fn python_int(text: &str) -> Option<i64> {
    let text = trim_number(text);
    // Rust takes the sign itself; a second one is refused there.
    without_underscores(text)?.parse().ok()
}

/// Takes off the blanks that `int()` and `float()` of Python ignore: in text that is ASCII alone these are C's, otherwise Unicode's.
fn trim_number(text: &str) -> &str {
    let c_space = |c| matches!(c, ' ' | '\t'..='\r');
    text.trim_matches(|c| c_space(c) || (!text.is_ascii() && is_space(c)))
}

/// Takes out the underscores Python allows, each between two digits; `None` when one stands elsewhere.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit = |index: Option<usize>| index.and_then(|index| bytes.get(index)).is_some_and(u8::is_ascii_digit);
    let misplaced = |(index, _)| !digit(usize::checked_sub(index, 1)) || !digit(Some(index + 1));
    if text.match_indices('_').any(misplaced) {
        return None;
    }
    Some(text.replace('_', ""))
}

fn integer(text: &str, min: i64, max: i64) -> Result<Value, String> {
    if text.trim_matches(is_space).is_empty() {
        return Ok(Value::Missing);
    }
    match python_int(text) {
        Some(number) if number < min => Err(format!("must be {min} or more")),
        Some(number) if number > max => Err(format!("must be {max} or less")),
        Some(number) => Ok(Value::Int(number)),
        None => Err("must be a whole number, in digits alone".into()),
    }
}

fn float(text: &str, min: f64, max: f64) -> Result<Value, String> {
    if text.trim_matches(is_space).is_empty() {
        return Ok(Value::Missing);
    }
    let number: f64 = without_underscores(trim_number(text)).and_then(|text| text.parse().ok()).ok_or("must be a number, such as 1.5")?;
    if number < min {
        return Err(format!("must be {min} or more"));
    }
    if number > max {
        return Err(format!("must be {max} or less"));
    }
    Ok(Value::Float(number))
}

/// Items between commas. Commas at the end count for nothing; empty items elsewhere stay.
pub(super) fn list(text: &str) -> Vec<String> {
    let text = text.trim_matches(is_space).trim_end_matches(',');
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(|item| item.trim_matches(is_space).to_owned()).collect()
}

/// Pairs between commas, split at their first colon. An item without a colon belongs to the next one: `a,b:c` is
/// the key `a,b`.
fn dict(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = text.trim_matches(is_space);
    let mut pairs: Vec<(String, String)> = Vec::new();
    if text.is_empty() {
        return Ok(pairs);
    }
    let mut begun = String::new();
    for item in text.split(',') {
        begun.push_str(item);
        let Some((key, value)) = begun.split_once(':') else {
            begun.push(',');
            continue;
        };
        let (key, value) = (key.trim_matches(is_space).to_owned(), value.trim_matches(is_space).to_owned());
        if key.is_empty() {
            return Err("has a pair with nothing before its colon; write key:value,key:value".into());
        }
        if pairs.iter().any(|(known, _)| *known == key) {
            return Err("has the same key twice".into());
        }
        pairs.push((key, value));
        begun.clear();
    }
    if begun.is_empty() { Ok(pairs) } else { Err("must be pairs: key:value,key:value".into()) }
}

/// Python's `str(float)`.
fn python_float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let size = number.abs();
    if number == 0.0 || (1e-4..1e16).contains(&size) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Python's `repr(str)`, for text without exotic unprintable characters.
fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() || (c.is_whitespace() && c != ' ') => {
                let code = c as u32;
                let written = if code < 0x100 { write!(out, "\\x{code:02x}") } else { write!(out, "\\u{code:04x}") };
                written.expect("writing to a string cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(text: &str) -> Option<i64> {
        match integer(text, -100, 100_000) {
            Ok(Value::Int(number)) => Some(number),
            _ => None,
        }
    }

    #[test]
    fn integers_read_like_python() {
        assert_eq!(int(" 1_000 "), Some(1000));
        assert_eq!(int("+5"), Some(5));
        assert_eq!(int("-5"), Some(-5));
        for wrong in ["_1", "1_", "1__0", "1.0", "0x10", "+-5", "ten", "999999999"] {
            assert_eq!(int(wrong), None, "{wrong}");
        }
        assert!(matches!(integer("  ", 0, 1), Ok(Value::Missing)));
    }

    #[test]
    fn lists_and_dictionaries_read_like_python() {
        assert_eq!(list(" a, ,b ,,"), ["a", "", "b"]);
        assert!(list(" ,, ").is_empty());
        assert_eq!(dict("a:1, b : x:y,c,d:2").unwrap(), [("a".into(), "1".into()), ("b".into(), "x:y".into()), ("c,d".into(), "2".into())]);
        assert!(dict("a").is_err());
        assert!(dict("a:1,a:2").is_err());
        assert!(dict(":1").is_err());
    }

    #[test]
    fn values_print_like_python() {
        assert_eq!(Value::List(vec!["a'b".into(), "c".into()]).python_text(), "[\"a'b\", 'c']");
        assert_eq!(Value::Bool(true).python_text(), "True");
        assert_eq!(Value::Float(1.0).python_text(), "1.0");
        assert_eq!(Value::Float(1e-5).python_text(), "1e-05");
        assert_eq!(Value::Float(1.5e22).python_text(), "1.5e+22");
    }
}
