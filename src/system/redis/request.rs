//! [`Request`]: a command with typed secrets.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// What a secret is shown as.
const HIDDEN: &str = "***";

#[derive(Clone)]
enum Word {
    Plain(String),
    Secret(SecretString),
}

impl Word {
    fn expose(&self) -> &str {
        match self {
            Word::Plain(text) => text,
            Word::Secret(text) => text.expose_secret(),
        }
    }
}

/// A command and its arguments. Printed, it shows no secret.
#[derive(Clone)]
pub struct Request(Vec<Word>);

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            match word {
                Word::Plain(text) => write!(f, "{blank}{}", text.escape_debug())?,
                Word::Secret(_) => write!(f, "{blank}{HIDDEN}")?,
            }
        }
        Ok(())
    }
}

impl Request {
    /// A command.
    pub fn new(name: impl Into<String>) -> Request {
        Request(vec![Word::Plain(name.into())])
    }

    /// A command whose very name is a secret.
    pub fn secret_command(name: SecretString) -> Request {
        Request(vec![Word::Secret(name)])
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, text: impl Into<String>) -> Request {
        self.0.push(Word::Plain(text.into()));
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, texts: impl IntoIterator<Item = S>) -> Request {
        self.0.extend(texts.into_iter().map(|text| Word::Plain(text.into())));
        self
    }

    /// Adds an argument nobody may see.
    #[must_use]
    pub fn secret(mut self, text: SecretString) -> Request {
        self.0.push(Word::Secret(text));
        self
    }

    /// For the driver.
    pub(super) fn command(&self) -> redis::Cmd {
        let mut command = redis::Cmd::new();
        for word in &self.0 {
            command.arg(word.expose());
        }
        command
    }

    /// As it goes over the wire (RESP, an array of bulk strings).
    pub(super) fn packed(&self) -> Vec<u8> {
        self.command().get_packed_command()
    }

    /// What the server said, without the secrets it quotes.
    pub(super) fn scrub(&self, text: &str) -> String {
        let secrets = self.0.iter().filter_map(|word| match word {
            Word::Secret(text) if !text.expose_secret().is_empty() => Some(text.expose_secret()),
            _ => None,
        });
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_sent_and_not_shown() {
        let request = Request::secret_command("hidden".into()).arg("SET").arg("requirepass").secret("planted\r\n$1".into());
        assert_eq!(format!("{request:?}"), "*** SET requirepass ***");
        assert_eq!(request.packed(), b"*4\r\n$6\r\nhidden\r\n$3\r\nSET\r\n$11\r\nrequirepass\r\n$11\r\nplanted\r\n$1\r\n");
        assert_eq!(
            request.scrub("unknown command 'hidden', with args 'SET' 'planted\r\n$1'"),
            "unknown command '***', with args 'SET' '***'"
        );
    }
}
