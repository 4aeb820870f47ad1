//! `$name`, `${name}` and `${group.name}` in values.
//!
//! Mirrors `ConfigOpts.Template` of oslo_config/cfg.py, which is Python's `string.Template` with dots allowed in names.

/// Replaces every reference in `text` by what `value_of` says of its name. `$$` and `\$` stand for a dollar sign; a dollar
/// sign before anything else stays as it is.
pub(super) fn substitute<E>(text: &str, mut value_of: impl FnMut(&str) -> Result<String, E>) -> Result<String, E> {
    let text = text.replace("\\$", "$$");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            after
        } else if let Some((name, after)) = name_at(after) {
            out.push_str(&value_of(name)?);
            after
        } else if let Some((name, after)) = braced_name_at(after) {
            out.push_str(&value_of(name)?);
            after
        } else {
            out.push('$');
            after
        };
    }
    out.push_str(rest);
    Ok(out)
}

/// The longest name `text` starts with, and what follows it.
fn name_at(text: &str) -> Option<(&str, &str)> {
    if !text.starts_with(is_letter) {
        return None;
    }
    let end = text.find(|c| !(is_letter(c) || c == '.' || c.is_ascii_digit())).unwrap_or(text.len());
    text.split_at_checked(end)
}

fn braced_name_at(text: &str) -> Option<(&str, &str)> {
    let (name, after) = name_at(text.strip_prefix('{')?)?;
    Some((name, after.strip_prefix('}')?))
}

/// `[_a-z]` of a Python pattern that ignores case without the ASCII flag: four other letters fold into it.
fn is_letter(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic() || matches!(c, '\u{130}' | '\u{131}' | '\u{17f}' | '\u{212a}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, String> {
        substitute(text, |name| if name == "no" { Err(name.to_owned()) } else { Ok(format!("<{name}>")) })
    }

    #[test]
    fn replaces_names_and_keeps_other_dollars() {
        assert_eq!(run("a $b.c-${d} $$e \\$f $1 ${ ${g $").unwrap(), "a <b.c>-<d> $e $f $1 ${ ${g $");
        assert_eq!(run("$é ${a b}").unwrap(), "$é ${a b}");
        assert_eq!(run("x$no"), Err("no".into()));
    }
}
