//! `redis.conf`, as Redis reads it (`loadServerConfigFromString`, `sdssplitargs`).

use super::flat::{Entry, Flat, Syntax};
use super::text::{decode, encode};
use crate::error::{Error, Result};

/// Redis' configuration file. `save`, `client-output-buffer-limit` and others may stand there several times: their value is a list of lists.
pub type RedisConf = Flat<RedisSyntax>;

/// See [`RedisConf`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisSyntax;

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0xb | 0xc)
}

/// Cuts a line into arguments; `None` when its quotes do not match.
fn split(line: &str) -> Option<Vec<String>> {
    let bytes = encode(line);
    let mut rest = bytes.iter().copied().peekable();
    let mut args = Vec::new();
    loop {
        while rest.next_if(|byte| is_space(*byte)).is_some() {}
        if rest.peek().is_none_or(|byte| *byte == 0) {
            return Some(args);
        }
        args.push(decode(&argument(&mut rest)?));
    }
}

fn argument(rest: &mut std::iter::Peekable<impl Iterator<Item = u8> + Clone>) -> Option<Vec<u8>> {
    let mut arg = Vec::new();
    loop {
        match rest.peek().copied() {
            None | Some(0) => return Some(arg),
            Some(byte) if is_space(byte) => return Some(arg),
            Some(quote @ (b'"' | b'\'')) => {
                rest.next();
                quoted(rest, quote, &mut arg)?;
                // Something must come between a quote and what follows it.
                return rest.peek().is_none_or(|byte| is_space(*byte)).then_some(arg);
            }
            Some(byte) => {
                arg.push(byte);
                rest.next();
            }
        }
    }
}

fn quoted(rest: &mut std::iter::Peekable<impl Iterator<Item = u8> + Clone>, quote: u8, arg: &mut Vec<u8>) -> Option<()> {
    loop {
        match rest.next()? {
            0 => return None,
            byte if byte == quote => return Some(()),
            b'\\' if quote == b'"' => {
                let mut ahead = rest.clone();
                let hex = [ahead.next(), ahead.next(), ahead.next()];
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                if let (Some(b'x'), Some(high), Some(low)) = (hex[0], digit(hex[1]), digit(hex[2])) {
                    arg.push(high * 16 + low);
                    *rest = ahead;
                    continue;
                }
                arg.push(match rest.next()? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
            }
            b'\\' if rest.peek() == Some(&b'\'') => arg.extend(rest.next()),
            byte => arg.push(byte),
        }
    }
}

fn quote(arg: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./:,=+@%*~^&$!?<>|()[]{}".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in arg.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl Syntax for RedisSyntax {
    const REPEATS: bool = true;

    fn read(line: &str) -> Option<Entry> {
        let text = line.trim_matches(BLANKS);
        if text.is_empty() || text.starts_with('#') {
            return None;
        }
        let mut args = split(text)?.into_iter();
        Some(Entry { name: args.next()?, args: args.collect() }).filter(|entry| !entry.name.is_empty())
    }

    fn write(name: &str, args: &[String], old: Option<&str>) -> Result<String> {
        let valid =
            name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !valid {
            return Err(Error::invalid(format!("'{}' is not the name of a setting of Redis", name.escape_debug())));
        }
        let old = old.unwrap_or(name);
        let indent: String = old.chars().take_while(|c| BLANKS.contains(c)).collect();
        let spelled: String = old.trim_start_matches(BLANKS).chars().take_while(|c| !c.is_whitespace()).collect();
        let spelled = if RedisSyntax::same(&spelled, name) { spelled.as_str() } else { name };
        Ok(args.iter().fold(format!("{indent}{spelled}"), |line, arg| format!("{line} {}", quote(arg))))
    }

    fn same(one: &str, other: &str) -> bool {
        one.eq_ignore_ascii_case(other)
    }

    fn word(flag: bool) -> &'static str {
        if flag { "yes" } else { "no" }
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
    fn several_values_have_several_lines() {
        let mut file = RedisConf::parse("# comment\nsave 900 1\n  SAVE 300 10\n\nrequirepass \"a b\\x41\\\"\"\nport 6379");
        assert_eq!(file.get(&["save"]), Some(json!([["900", "1"], ["300", "10"]])));
        assert_eq!(file.get(&["requirepass"]), Some(json!("a bA\"")));
        file.set(&["save"], &json!([["900", "1"], ["60", 5], ["1", "2"]])).unwrap();
        file.set(&["Port"], &json!(7000)).unwrap();
        file.set(&["appendonly"], &json!(true)).unwrap();
        assert_eq!(
            file.render(),
            "# comment\nsave 900 1\n  SAVE 60 5\nsave 1 2\n\nrequirepass \"a b\\x41\\\"\"\nport 7000\nappendonly yes\n"
        );
        file.set(&["save"], &json!("")).unwrap();
        assert!(file.remove(&["requirepass"]));
        assert_eq!(file.render(), "# comment\nsave \"\"\n\nport 7000\nappendonly yes\n");
        assert!(file.set(&["a b"], &json!(1)).is_err() && file.set(&["x"], &json!(null)).is_err());
    }

    proptest! {
        #[test]
        fn promises(text in "(#|save|port|\"|'|\\\\|x|\\PC| |\t|\r|\n|\r\n){0,40}", value in any::<String>()) {
            keeps_its_promises::<RedisConf>(&text, &["requirepass"], &value);
        }
    }
}
