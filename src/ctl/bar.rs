//! A progress bar on the terminal's standard error.

use indicatif::{ProgressBar, ProgressStyle};

/// One bar; gone when dropped. Where standard error is no terminal, nothing is drawn.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar of this name.
    pub(super) fn new(name: &str) -> Self {
        let bar = ProgressBar::no_length();
        bar.set_prefix(name.to_owned());
        Bar(bar)
    }

    /// Draws how far it is; a bar that does not know how far it has to go shows that it lives.
    pub(super) fn show(&self, bytes: u64, expected: Option<u64>, words: &str) {
        let template = if expected.is_some() { "{prefix} [{bar:30}] {percent}% {msg}" } else { "{prefix} {spinner} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style.progress_chars("=> "));
        }
        match expected {
            // More than was expected is all of it.
            Some(expected) => self.0.set_length(expected.max(bytes)),
            None => self.0.unset_length(),
        }
        self.0.set_position(bytes);
        self.0.set_message(words.to_owned());
        self.0.tick();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
