//! Text to words, as a POSIX shell splits it (Python's `shlex.split`), without any expansion.

/// Splits `text` at blanks outside of quotes.
///
/// # Errors
/// A quote that is not closed, or a backslash at the end.
pub(super) fn split_words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('"'), '\\') => {
                let next = chars.next().ok_or("ends with a backslash")?;
                let text = word.get_or_insert_default();
                if !matches!(next, '"' | '\\') {
                    text.push('\\');
                }
                text.push(next);
            }
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().push(chars.next().ok_or("ends with a backslash")?),
            (None, ' ' | '\t' | '\r' | '\n') => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("has a quote that is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_like_a_shell() {
        assert_eq!(split_words("-m 5  -O '^a b' x\"y \\\" \\z\"\\ w ''").unwrap(), ["-m", "5", "-O", "^a b", "xy \" \\z w", ""]);
        assert!(split_words("a 'b").is_err());
        assert!(split_words("a\\").is_err());
    }
}
