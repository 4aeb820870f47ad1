//! A progress bar on the terminal's standard error.

use indicatif::{ProgressBar, ProgressStyle};

/// Steps of a whole bar.
const STEPS: u64 = 1000;

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
    pub(super) fn show(&self, fraction: Option<f64>, words: &str) {
        let template = if fraction.is_some() { "{prefix} [{bar:30}] {percent}% {msg}" } else { "{prefix} {spinner} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style.progress_chars("=> "));
        }
        match fraction {
            Some(fraction) => {
                self.0.set_length(STEPS);
                self.0.set_position((fraction.clamp(0.0, 1.0) * STEPS as f64) as u64);
            }
            None => self.0.unset_length(),
        }
        self.0.set_message(words.to_owned());
        self.0.tick();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
