//! [`SqlText`]: statements made of program text, and of tokens that quote themselves and hide what they must.
//!
//! Account and schema statements cannot be prepared, so this is where injection is made impossible: a statement takes program text only as
//! `&'static str`, and everything else only as a complete token.

use std::fmt;
use std::marker::PhantomData;

use secrecy::{ExposeSecret, SecretString};

/// How a server writes strings.
pub trait Quoting {
    /// The token of any string, its quotes included.
    fn literal(value: &str) -> String;
}

#[derive(Clone)]
enum Part {
    Plain(String),
    Secret(SecretString),
}

/// A statement. `Debug` shows it without its secrets.
#[derive(Clone)]
pub struct SqlText<Q> {
    parts: Vec<Part>,
    quoting: PhantomData<Q>,
}

impl<Q: Quoting> SqlText<Q> {
    /// Starts with program text.
    pub fn new(text: &'static str) -> Self {
        SqlText { parts: Vec::new(), quoting: PhantomData }.raw(text)
    }

    /// Program text.
    #[must_use]
    pub fn raw(self, text: &'static str) -> Self {
        self.token(text.to_owned())
    }

    /// A string.
    #[must_use]
    pub fn literal(self, value: &str) -> Self {
        self.token(Q::literal(value))
    }

    /// Strings, separated by commas.
    #[must_use]
    pub fn literals<'a>(self, values: impl IntoIterator<Item = &'a str>) -> Self {
        let tokens: Vec<String> = values.into_iter().map(Q::literal).collect();
        self.token(tokens.join(", "))
    }

    /// A number.
    #[must_use]
    pub fn number(self, value: impl Into<serde_json::Number>) -> Self {
        self.token(value.into().to_string())
    }

    /// A string that is never shown.
    #[must_use]
    pub fn secret(mut self, value: &SecretString) -> Self {
        self.parts.push(Part::Secret(value.clone()));
        self
    }

    /// Several statements as one text; `None` when there are none.
    pub fn joined(statements: Vec<Self>) -> Option<Self> {
        statements.into_iter().reduce(|mut text, statement| {
            text.parts.push(Part::Plain("; ".to_owned()));
            text.parts.extend(statement.parts);
            text
        })
    }

    /// A complete token of the server's language, which has quoted itself.
    #[must_use]
    pub(in crate::system) fn token(mut self, text: String) -> Self {
        self.parts.push(Part::Plain(text));
        self
    }

    /// The whole text, secrets included, for the server alone.
    pub fn render(&self) -> SecretString {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Plain(plain) => text.push_str(plain),
                Part::Secret(secret) => text.push_str(&Q::literal(secret.expose_secret())),
            }
        }
        text.into()
    }

    /// `message` without the statement's secrets: a server quotes what it does not understand.
    pub fn scrub(&self, message: &str) -> String {
        self.parts.iter().fold(message.to_owned(), |message, part| match part {
            Part::Secret(secret) if !secret.expose_secret().is_empty() => {
                let quoted = Q::literal(secret.expose_secret());
                message.replace(secret.expose_secret(), "***").replace(quoted.trim_matches('\''), "***")
            }
            Part::Secret(_) | Part::Plain(_) => message,
        })
    }
}

impl<Q> fmt::Debug for SqlText<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Plain(text) => f.write_str(text),
            Part::Secret(_) => f.write_str("'***'"),
        })
    }
}
