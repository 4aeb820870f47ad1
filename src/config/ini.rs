//! Text in oslo.config's INI dialect to sections, keys and values, with line numbers.
//!
//! Mirrors oslo_config/iniparser.py and `ConfigParser` of oslo_config/cfg.py, except that it goes on after a mistake so
//! that all of them are reported in one run. It knows nothing of options and their types.

use secrecy::SecretString;

/// A mistake in the form of a file. It never quotes the line: the line may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct IniError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

/// One `key = value` of a file.
#[derive(Debug, Clone)]
pub struct IniEntry {
    /// Section as written, without brackets.
    pub section: String,
    /// Key as written.
    pub key: String,
    /// Value without its quotes; continuation lines are joined with `\n`. Any value may be a credential, so all are wrapped.
    pub value: SecretString,
    /// Line of the key, from 1.
    pub line: usize,
}

/// What a file says, in the order it says it.
#[derive(Debug, Clone, Default)]
pub struct IniFile {
    /// Section headers as written, each once, also those without a key.
    pub sections: Vec<String>,
    /// Every assignment, repeated ones included.
    pub entries: Vec<IniEntry>,
}

impl IniFile {
    /// The assignments of `key` in `section`, in file order. Section names do not depend on case, except `DEFAULT`.
    pub fn values<'a>(&'a self, section: &str, key: &str) -> impl DoubleEndedIterator<Item = &'a IniEntry> {
        let section = normalize_group(section);
        self.entries.iter().filter(move |entry| entry.key == key && normalize_group(&entry.section) == section)
    }

    /// The assignment that counts: the last one.
    pub fn last<'a>(&'a self, section: &str, key: &str) -> Option<&'a IniEntry> {
        self.values(section, key).next_back()
    }
}

/// Mirrors `_normalize_group_name` of oslo_config/cfg.py: `DEFAULT` stays, everything else is lower case.
pub(super) fn normalize_group(name: &str) -> String {
    if name == "DEFAULT" { name.to_owned() } else { name.to_lowercase() }
}

/// Reads a whole file.
///
/// # Errors
/// All mistakes of form, in line order.
pub fn parse_ini(text: &str) -> Result<IniFile, Vec<IniError>> {
    let (file, errors) = parse_leniently(text);
    if errors.is_empty() { Ok(file) } else { Err(errors) }
}

/// Reads what can be read, and lists what cannot.
pub(super) fn parse_leniently(text: &str) -> (IniFile, Vec<IniError>) {
    let mut parser = Parser::default();
    for line in lines(text) {
        parser.line(line);
    }
    parser.flush();
    (parser.file, parser.errors)
}

/// Lines as Python's text mode sees them: `\n`, `\r\n` and a lone `\r` end a line.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|chunk| chunk.strip_suffix('\r').unwrap_or(chunk).split('\r'))
}

/// White space as `str.strip` of Python sees it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// An assignment whose continuation lines may still come.
struct Pending {
    key: String,
    value: Vec<String>,
    line: usize,
}

#[derive(Default)]
struct Parser {
    file: IniFile,
    errors: Vec<IniError>,
    number: usize,
    section: Option<String>,
    /// After a malformed section header its keys belong nowhere; only the header is reported.
    lost: bool,
    pending: Option<Pending>,
}

impl Parser {
    fn line(&mut self, raw: &str) {
        self.number += 1;
        let line = raw.trim_end_matches(is_space);
        if line.is_empty() {
            self.flush();
        } else if line.starts_with([' ', '\t']) {
            let continued = line.trim_start_matches(is_space).to_owned();
            match &mut self.pending {
                Some(pending) => pending.value.push(continued),
                None => self.error("an indented line continues a value, but there is none before it; remove the spaces at its start"),
            }
        } else {
            self.flush();
            if let Some(header) = line.strip_prefix('[') {
                self.header(header);
            } else if !line.starts_with(['#', ';']) {
                self.assignment(line);
            }
        }
    }

    fn header(&mut self, rest: &str) {
        let name = match rest.strip_suffix(']') {
            Some("") => Err("a section needs a name between its brackets, such as [DEFAULT]"),
            Some(name) => Ok(name),
            None => Err("a section header must end with ']' and nothing may follow it"),
        };
        match name {
            Ok(name) => {
                if !self.file.sections.iter().any(|known| known == name) {
                    self.file.sections.push(name.to_owned());
                }
                self.section = Some(name.to_owned());
                self.lost = false;
            }
            Err(message) => {
                self.error(message);
                self.lost = true;
            }
        }
    }

    fn assignment(&mut self, line: &str) {
        let Some((key, value)) = line.split_once(['=', ':']) else {
            let hint = if line.starts_with('\u{feff}') { "; the file starts with a byte order mark, save it without one" } else { "" };
            self.error(format!("neither 'key = value', nor a section, nor a comment{hint}"));
            return;
        };
        let key = key.trim_matches(is_space);
        if key.is_empty() {
            self.error("there is no key before the '=' or ':'");
            return;
        }
        let value = unquote(value.trim_matches(is_space)).to_owned();
        self.pending = Some(Pending { key: key.to_owned(), value: vec![value], line: self.number });
    }

    fn flush(&mut self) {
        let Some(Pending { key, value, line }) = self.pending.take() else { return };
        if self.lost {
            return;
        }
        match &self.section {
            Some(section) => {
                let value = SecretString::from(value.join("\n"));
                self.file.entries.push(IniEntry { section: section.clone(), key, value, line });
            }
            None => {
                let message = format!("'{key}' comes before any section; write [DEFAULT] on a line above it");
                self.errors.push(IniError { line, message });
            }
        }
    }

    fn error(&mut self, message: impl Into<String>) {
        self.errors.push(IniError { line: self.number, message: message.into() });
    }
}

/// Takes one pair of equal quotes off. A lone quote counts as a pair, as it does in oslo's slice.
fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            if rest.is_empty() {
                return "";
            }
            if let Some(inner) = rest.strip_suffix(quote) {
                return inner;
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn value(text: &str, key: &str) -> String {
        parse_ini(text).unwrap().last("DEFAULT", key).unwrap().value.expose_secret().to_owned()
    }

    #[test]
    fn reads_the_dialect() {
        let text = "[DEFAULT]\na=1 # no comment\nb : x=y\nc = \"q\"\nd='\ne = one\n  two\n\n# note\n[X]\n[x]\nk=v\nk=w\n";
        let file = parse_ini(text).unwrap();
        assert_eq!(value(text, "a"), "1 # no comment");
        assert_eq!(value(text, "b"), "x=y");
        assert_eq!(value(text, "c"), "q");
        assert_eq!(value(text, "d"), "");
        assert_eq!(value(text, "e"), "one\ntwo");
        assert_eq!(file.sections, ["DEFAULT", "X", "x"]);
        assert_eq!(file.values("X", "k").count(), 2);
        assert_eq!(file.last("x", "k").unwrap().line, 13);
        assert!(file.last("DEFAULT", "k").is_none());
    }

    #[test]
    fn reports_every_mistake_with_its_line_and_without_its_text() {
        let errors = parse_ini("early = 1\n[DEFAULT\nhidden = 1\n[DEFAULT]\nhunter2\n= hunter2\n\n  hunter2\n[]\n").unwrap_err();
        assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 2, 5, 6, 8, 9]);
        assert!(!errors.iter().any(|error| error.message.contains("hunter2")));
    }

    #[test]
    fn line_ends_of_other_systems_count() {
        let text = "[DEFAULT]\r\na = 1\rb = 2\n";
        assert_eq!(value(text, "a"), "1");
        assert_eq!(value(text, "b"), "2");
    }

    proptest! {
        #[test]
        fn never_panics(text in "(?s).{0,200}") {
            let (file, errors) = parse_leniently(&text);
            prop_assert_eq!(parse_ini(&text).is_ok(), errors.is_empty());
            prop_assert!(file.entries.iter().all(|entry| !entry.key.is_empty()));
        }

        #[test]
        fn what_is_written_is_read(key in "[a-z][a-z_]{0,9}", value in "[!-~]([ -~]{0,30}[!-~])?") {
            prop_assume!(!value.starts_with(['"', '\'']));
            let file = parse_ini(&format!("[DEFAULT]\n{key} = {value}\n")).unwrap();
            prop_assert_eq!(file.last("DEFAULT", &key).unwrap().value.expose_secret(), value.as_str());
        }
    }
}
