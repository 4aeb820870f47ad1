//! [`Document`]: what every format of configuration file can do.

use std::fmt;

use serde_json::Value;

use crate::error::Result;

/// A configuration file, line by line.
///
/// - `parse` takes any text, and `render` of what was parsed is that text to the byte.
/// - `set` and `remove` change the lines of their setting and no other; comments, blank lines, order, line ends and a missing newline at the end stay.
/// - What `set` has accepted, `get` of the rendered text returns. What the format cannot hold is an error, and nothing has changed then.
///
/// Settings are named by a path: group and option (`my.cnf`), the keys of nested mappings (YAML), a single name elsewhere. A value is JSON:
/// `null` is a setting without a value, a list one setting with several.
pub trait Document: Clone + PartialEq + fmt::Debug + Send + Sync {
    /// Reads any text.
    fn parse(text: &str) -> Self;

    /// The text.
    fn render(&self) -> String;

    /// Every setting with its value, in the order of the file; one that stands there several times comes once, where it comes last.
    fn settings(&self) -> Vec<(Vec<String>, Value)>;

    /// The value of a setting; `None` when it is not in the file.
    fn get(&self, path: &[&str]) -> Option<Value>;

    /// Sets a value, in place or at the end of where it belongs.
    ///
    /// # Errors
    /// The format cannot hold this name or value.
    fn set(&mut self, path: &[&str], value: &Value) -> Result<()>;

    /// Removes a setting; false when it was not there.
    fn remove(&mut self, path: &[&str]) -> bool;

    /// Lays the settings of `over` upon these.
    ///
    /// # Errors
    /// Those of [`Self::set`].
    fn overlay(&mut self, over: &Self) -> Result<()> {
        for (path, value) in over.settings() {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            self.set(&path, &value)?;
        }
        Ok(())
    }
}
