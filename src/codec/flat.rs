//! [`Flat`]: files that are a list of settings, one a line.

use std::fmt;

use serde_json::Value;

use super::document::Document;
use super::lines::{Lines, split_end};
use crate::error::{Error, Result};

/// A setting as its line has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as it is spelled.
    pub name: String,
    /// Its arguments; one, in most formats.
    pub args: Vec<String>,
}

/// How a format writes its lines.
pub trait Syntax: Clone + PartialEq + fmt::Debug + Send + Sync {
    /// Whether a setting that stands there several times has several values. Otherwise the last one counts.
    const REPEATS: bool;

    /// Cuts a text into lines with their ends; a line that goes on in the next is one.
    fn cut(text: &str) -> Vec<(&str, &str)> {
        text.split_inclusive('\n').map(split_end).collect()
    }

    /// What a line says; `None` for comments, blank lines, and what is no setting.
    fn read(line: &str) -> Option<Entry>;

    /// The line of a setting. `old` is the line it replaces, whose spelling, blanks and comment it keeps where it can.
    ///
    /// # Errors
    /// The format cannot hold the name or an argument.
    fn write(name: &str, args: &[String], old: Option<&str>) -> Result<String>;

    /// Whether two names are one setting.
    fn same(one: &str, other: &str) -> bool;

    /// A value that is not text, as this format has it.
    fn word(flag: bool) -> &'static str;
}

/// A file of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flat<S: Syntax> {
    lines: Lines<Option<Entry>>,
    syntax: std::marker::PhantomData<S>,
}

/// What a value says in each of its lines.
fn occurrences<S: Syntax>(name: &str, value: &Value) -> Result<Vec<Vec<String>>> {
    let word = |value: &Value| match value {
        Value::Bool(flag) => Ok(S::word(*flag).to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::String(text) => Ok(text.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(Error::invalid(format!("'{}' needs a value of text", name.escape_debug()))),
    };
    match value {
        Value::Array(lines) if !lines.is_empty() && lines.iter().all(Value::is_array) => {
            lines.iter().flat_map(Value::as_array).map(|args| args.iter().map(word).collect()).collect()
        }
        Value::Array(args) if !args.is_empty() => args.iter().map(word).collect::<Result<_>>().map(|args| vec![args]),
        other => word(other).map(|arg| vec![vec![arg]]),
    }
}

impl<S: Syntax> Flat<S> {
    fn places(&self, name: &str) -> Vec<usize> {
        let lines = self.lines.iter().enumerate();
        lines.filter(|(_, line)| line.meaning.as_ref().is_some_and(|entry| S::same(&entry.name, name))).map(|(at, _)| at).collect()
    }
}

fn the_name<'a>(path: &[&'a str]) -> Result<&'a str> {
    match path {
        [name] => Ok(name),
        _ => Err(Error::invalid("a setting of this file is named by one name")),
    }
}

impl<S: Syntax> Document for Flat<S> {
    fn parse(text: &str) -> Flat<S> {
        Flat { lines: Lines::of(S::cut(text).into_iter(), S::read), syntax: std::marker::PhantomData }
    }

    fn render(&self) -> String {
        self.lines.render()
    }

    fn settings(&self) -> Vec<(Vec<String>, Value)> {
        let mut settings: Vec<(Vec<String>, Value)> = Vec::new();
        for name in self.lines.iter().filter_map(|line| line.meaning.as_ref()).map(|entry| entry.name.as_str()) {
            settings.retain(|(path, _)| !S::same(&path[0], name));
            settings.extend(self.get(&[name]).map(|value| (vec![name.to_owned()], value)));
        }
        settings
    }

    fn get(&self, path: &[&str]) -> Option<Value> {
        let places = self.places(the_name(path).ok()?);
        let args: Vec<&Vec<String>> =
            places.iter().filter_map(|at| self.lines.get(*at)?.meaning.as_ref()).map(|entry| &entry.args).collect();
        match args.as_slice() {
            [] => None,
            [_, _, ..] if S::REPEATS => Some(Value::from(args.into_iter().map(|args| Value::from(args.clone())).collect::<Vec<_>>())),
            [.., last] => Some(match last.as_slice() {
                [one] => Value::from(one.as_str()),
                several => Value::from(several.to_vec()),
            }),
        }
    }

    fn set(&mut self, path: &[&str], value: &Value) -> Result<()> {
        let name = the_name(path)?;
        let wanted = occurrences::<S>(name, value)?;
        if wanted.len() > 1 && !S::REPEATS {
            return Err(Error::invalid(format!("'{}' can have one value only", name.escape_debug())));
        }
        let old = self.places(name);
        // Where the last one counts, it is the one to change; the others say nothing.
        let kept: Vec<usize> = if S::REPEATS { old.clone() } else { old.last().copied().into_iter().collect() };
        let mut texts = Vec::with_capacity(wanted.len());
        for (index, args) in wanted.iter().enumerate() {
            let line = kept.get(index).and_then(|at| self.lines.get(*at));
            let unchanged = line.is_some_and(|line| line.meaning.as_ref().is_some_and(|entry| entry.args == *args));
            let reads_back = |text: &String| {
                S::cut(text).len() == 1 && S::read(text).is_some_and(|entry| S::same(&entry.name, name) && entry.args == *args)
            };
            let text = match line {
                Some(line) if unchanged => line.text().to_owned(),
                line => match line.map(|line| S::write(name, args, Some(line.text()))).transpose()?.filter(reads_back) {
                    Some(text) => text,
                    None => S::write(name, args, None).ok().filter(reads_back).ok_or_else(|| {
                        Error::invalid(format!("a line of this file cannot hold this value of '{}'", name.escape_debug()))
                    })?,
                },
            };
            texts.push(text);
        }
        let mut changed = self.clone();
        for (index, text) in texts.iter().enumerate() {
            match kept.get(index) {
                Some(at) => changed.lines.replace(*at, text, S::read(text)),
                None => {
                    let at = changed.places(name).last().map_or(changed.lines.len(), |last| last + 1);
                    changed.lines.insert(at, text, S::read(text));
                }
            }
        }
        kept.iter().skip(texts.len()).rev().for_each(|at| changed.lines.remove(*at));
        // A line that goes on beyond the end of a damaged file would swallow the new one.
        if Self::parse(&changed.render()) != changed {
            return Err(Error::invalid(format!("the file is damaged: '{}' cannot be set in it", name.escape_debug())));
        }
        *self = changed;
        Ok(())
    }

    fn remove(&mut self, path: &[&str]) -> bool {
        let places = the_name(path).map(|name| self.places(name)).unwrap_or_default();
        places.iter().rev().for_each(|at| self.lines.remove(*at));
        !places.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What every format promises.
    pub(crate) fn keeps_its_promises<D: Document>(text: &str, path: &[&str], value: &str) {
        let before = D::parse(text);
        assert_eq!(before.render(), text);
        let mut file = before.clone();
        if file.set(path, &Value::from(value)).is_err() {
            assert_eq!(file, before);
            return;
        }
        let read = D::parse(&file.render());
        assert_eq!(read.get(path), Some(Value::from(value)), "{text:?} became {:?}", file.render());
        let others = |file: &D| file.settings().into_iter().filter(|(other, _)| other != path).collect::<Vec<_>>();
        assert_eq!(others(&read), others(&before), "{text:?} became {:?}", file.render());
        let mut again = read.clone();
        again.set(path, &Value::from(value)).unwrap();
        assert_eq!(again, read);
        assert!(again.remove(path));
        assert_eq!(again.get(path), None);
    }
}
