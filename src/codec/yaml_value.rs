//! Values of YAML: reading the ones that configuration files have, and writing them so that every reader takes them for what they are.

use serde_json::{Number, Value};

use crate::error::{Error, Result};

fn as_map(pairs: Vec<(String, Value)>) -> Value {
    Value::Object(pairs.into_iter().collect())
}

/// A line of a value: how far it is indented, and what it says without its comment.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) indent: usize,
    pub(super) text: String,
}

/// Splits off a comment: a `#` at the beginning or after a blank, outside quotes.
pub(super) fn split_comment(text: &str) -> (&str, &str) {
    let (mut quote, mut escaped, mut before) = (None, false, ' ');
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '#') if matches!(before, ' ' | '\t') => return text.split_at(at),
            // Inside a word a quote is a character like others.
            (None, '"' | '\'') if matches!(before, ' ' | '\t' | '[' | '{' | ',' | ':') => quote = Some(c),
            (Some('"'), '"') if !escaped => quote = None,
            (Some('\''), '\'') => quote = None,
            _ => {}
        }
        escaped = quote == Some('"') && c == '\\' && !escaped;
        before = c;
    }
    (text, "")
}

/// The key at the beginning of a line, and what follows its colon.
pub(super) fn key(content: &str) -> Option<(String, &str)> {
    let (token, rest) = match content.chars().next()? {
        quote @ ('"' | '\'') => {
            let length = quoted_length(content, quote)?;
            content.split_at(length)
        }
        c if "-?:,[]{}#&*!|>%@`\t\r".contains(c) && !content.starts_with(|c: char| c == '-' && !content.starts_with("- ")) => return None,
        _ => {
            let end = content.char_indices().find(|(at, c)| {
                let after = content.split_at(at + c.len_utf8()).1;
                *c == ':' && (after.is_empty() || after.starts_with([' ', '\t', '\r']))
            });
            let (token, rest) = content.split_at(end?.0);
            (token.trim_end_matches([' ', '\t']), rest)
        }
    };
    let rest = rest.trim_start_matches([' ', '\t']).strip_prefix(':')?;
    if !(rest.is_empty() || rest.starts_with([' ', '\t', '\r'])) || token.contains(" #") {
        return None;
    }
    match plain_or_quoted(token)? {
        Value::String(key) => Some((key, rest)),
        _ => Some((token.to_owned(), rest)),
    }
}

/// Length of a quoted scalar at the beginning of `text`, quotes included.
fn quoted_length(text: &str, quote: char) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next();
        } else if c == quote {
            if quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == '\'') {
                chars.next();
                continue;
            }
            return Some(at + 1);
        }
    }
    None
}

fn unquote_double(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        text.push(match chars.next()? {
            '0' => '\0',
            'a' => '\u{7}',
            'b' => '\u{8}',
            't' | '\t' => '\t',
            'n' => '\n',
            'v' => '\u{b}',
            'f' => '\u{c}',
            'r' => '\r',
            'e' => '\u{1b}',
            'N' => '\u{85}',
            '_' => '\u{a0}',
            'L' => '\u{2028}',
            'P' => '\u{2029}',
            'x' => code(&mut chars, 2)?,
            'u' => code(&mut chars, 4)?,
            'U' => code(&mut chars, 8)?,
            other @ (' ' | '"' | '/' | '\\') => other,
            _ => return None,
        });
    }
    Some(text)
}

/// A character by its number.
fn code(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let code: String = chars.by_ref().take(digits).collect();
    u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits).and_then(char::from_u32)
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || !digits.chars().all(|c| c.is_ascii_digit() || "eE+-.".contains(c)) {
        return None;
    }
    // A zero in front is octal to some readers.
    if digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.") {
        return None;
    }
    let whole = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from)).ok();
    whole.or_else(|| text.parse::<f64>().ok().filter(|_| digits.contains('.')).and_then(Number::from_f64))
}

/// A scalar; `None` for anchors, tags and what is no scalar.
fn plain_or_quoted(text: &str) -> Option<Value> {
    let first = text.chars().next();
    if let Some(quote @ ('"' | '\'')) = first {
        if quoted_length(text, quote)? != text.len() {
            return None;
        }
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        return if quote == '"' { unquote_double(inner).map(Value::from) } else { Some(Value::from(inner.replace("''", "'"))) };
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
        _ => {}
    }
    if first.is_some_and(|c| "&*!|>%@`[]{},#?".contains(c)) || text.contains(": ") || text.ends_with(':') {
        return None;
    }
    Some(number(text).map_or_else(|| Value::from(text), Value::Number))
}

/// The value in these lines.
pub(super) fn parse(pieces: &[Piece]) -> Option<Value> {
    let Some(first) = pieces.first() else { return Some(Value::Null) };
    if first.text == "-" || first.text.starts_with("- ") {
        return list(pieces, first.indent);
    }
    if first.text.starts_with(['[', '{']) {
        let text = pieces.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>().join(" ");
        let mut rest = text.as_str();
        let value = flow(&mut rest, 0)?;
        return rest.trim().is_empty().then_some(value);
    }
    if key(&first.text).is_some() {
        return mapping(pieces, first.indent);
    }
    // Text over several lines is left to others.
    if pieces.len() == 1 { plain_or_quoted(&first.text) } else { None }
}

/// Cuts lines into groups, each of which begins at this indentation.
fn groups(pieces: &[Piece], indent: usize, begins: impl Fn(&Piece) -> bool) -> Option<Vec<&[Piece]>> {
    let mut starts: Vec<usize> =
        pieces.iter().enumerate().filter(|(_, piece)| piece.indent == indent && begins(piece)).map(|(at, _)| at).collect();
    if pieces.iter().any(|piece| piece.indent < indent) || starts.first() != Some(&0) {
        return None;
    }
    starts.push(pieces.len());
    starts.windows(2).map(|pair| pieces.get(pair[0]..pair[1])).collect()
}

fn list(pieces: &[Piece], indent: usize) -> Option<Value> {
    let is_item = |piece: &Piece| piece.text == "-" || piece.text.starts_with("- ");
    if pieces.iter().any(|piece| piece.indent == indent && !is_item(piece)) {
        return None;
    }
    let items = groups(pieces, indent, is_item)?;
    let item = |item: &[Piece]| {
        let (head, tail) = item.split_first()?;
        let text = head.text.strip_prefix('-')?;
        let content = text.trim_start_matches(' ');
        let mut inner = Vec::with_capacity(item.len());
        if !content.is_empty() {
            inner.push(Piece { indent: head.indent + head.text.len() - content.len(), text: content.to_owned() });
        }
        inner.extend_from_slice(tail);
        parse(&inner)
    };
    items.into_iter().map(item).collect::<Option<Vec<_>>>().map(Value::from)
}

fn mapping(pieces: &[Piece], indent: usize) -> Option<Value> {
    let begins = |piece: &Piece| !piece.text.starts_with("- ") && piece.text != "-";
    let pair = |lines: &[Piece]| {
        let (head, tail) = lines.split_first()?;
        let (name, rest) = key(&head.text)?;
        let own = rest.trim_matches([' ', '\t']);
        if own.starts_with(['|', '>', '&', '*', '!']) {
            return None;
        }
        let mut inner = Vec::with_capacity(lines.len());
        if !own.is_empty() {
            inner.push(Piece { indent: indent + 1, text: own.to_owned() });
        }
        inner.extend_from_slice(tail);
        Some((name, parse(&inner)?))
    };
    groups(pieces, indent, begins)?.into_iter().map(pair).collect::<Option<Vec<_>>>().map(as_map)
}

/// How deep lists in lists may go.
const DEEPEST: usize = 50;

/// A value in one line: `[a, {b: c}]`.
fn flow(rest: &mut &str, depth: usize) -> Option<Value> {
    *rest = rest.trim_start();
    let (first, is_list) = (rest.chars().next()?, rest.starts_with('['));
    if depth > DEEPEST {
        return None;
    }
    if !matches!(first, '[' | '{') {
        return flow_scalar(rest).and_then(|token| plain_or_quoted(&token));
    }
    *rest = rest.strip_prefix(first)?;
    let (mut items, mut pairs) = (Vec::new(), Vec::new());
    loop {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(if is_list { ']' } else { '}' }) {
            *rest = after;
            return Some(if is_list { Value::from(items) } else { as_map(pairs) });
        }
        if is_list {
            items.push(flow(rest, depth + 1)?);
        } else {
            let Value::String(name) = plain_or_quoted(&flow_scalar(rest)?)? else { return None };
            *rest = rest.trim_start().strip_prefix(':')?;
            pairs.push((name, flow(rest, depth + 1)?));
        }
        *rest = rest.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => *rest = after,
            None if rest.starts_with([']', '}']) => {}
            None => return None,
        }
    }
}

fn flow_scalar(rest: &mut &str) -> Option<String> {
    *rest = rest.trim_start();
    let length = match rest.chars().next()? {
        quote @ ('"' | '\'') => quoted_length(rest, quote)?,
        _ => rest
            .char_indices()
            .find(|(at, c)| ",[]{}".contains(*c) || (*c == ':' && rest.split_at(at + 1).1.starts_with([' ', '\t'])))
            .map_or(rest.len(), |(at, _)| at),
    };
    let (token, after) = rest.split_at(length);
    *rest = after;
    Some(token.trim_end().to_owned())
}

/// Words that some reader takes for something else than text.
const RESERVED: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// A scalar that every reader takes for what it is.
///
/// # Errors
/// A list or a mapping.
pub(super) fn scalar(value: &Value) -> Result<String> {
    match value {
        Value::Null => Ok("null".to_owned()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::String(text) => Ok(quote(text)),
        Value::Array(_) | Value::Object(_) => Err(Error::invalid("a list or a mapping cannot stand here")),
    }
}

fn quote(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c));
    if plain && !RESERVED.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)))
            }
            // Noncharacters and private planes are not for every reader.
            c if c > '\u{ffff}' => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A value in one line.
///
/// # Errors
/// None that a JSON value could cause today; a key of a mapping is text.
pub(super) fn write(value: &Value) -> Result<String> {
    match value {
        Value::Array(items) => Ok(format!("[{}]", items.iter().map(write).collect::<Result<Vec<_>>>()?.join(", "))),
        Value::Object(pairs) => {
            let pair = |(name, value): (&String, &Value)| Ok(format!("{}: {}", quote(name), write(value)?));
            Ok(format!("{{{}}}", pairs.iter().map(pair).collect::<Result<Vec<_>>>()?.join(", ")))
        }
        other => scalar(other),
    }
}
