//! [`Lines`]: a text cut into lines that keep their ends, and what each of them means.

/// A line as it stands in the file, its end included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<M> {
    raw: String,
    pub(super) meaning: M,
}

impl<M> Line<M> {
    /// The line without its end.
    pub(super) fn text(&self) -> &str {
        trim_end(&self.raw)
    }
}

/// Lines that are rendered as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lines<M> {
    lines: Vec<Line<M>>,
}

/// Cuts off the end of a line.
fn trim_end(raw: &str) -> &str {
    let text = raw.strip_suffix('\n').unwrap_or(raw);
    if text.len() < raw.len() { text.strip_suffix('\r').unwrap_or(text) } else { text }
}

impl<M> Lines<M> {
    /// Cuts a text; `meaning` sees each line without its end.
    pub(super) fn parse(text: &str, mut meaning: impl FnMut(&str) -> M) -> Lines<M> {
        let lines = text.split_inclusive('\n').map(|raw| Line { raw: raw.to_owned(), meaning: meaning(trim_end(raw)) });
        Lines { lines: lines.collect() }
    }

    pub(super) fn render(&self) -> String {
        self.lines.iter().map(|line| line.raw.as_str()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Line<M>> + ExactSizeIterator {
        self.lines.iter()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Line<M>> {
        self.lines.get(at)
    }

    /// What the file's lines end with.
    fn ending(&self) -> &'static str {
        if self.lines.iter().any(|line| line.raw.ends_with("\r\n")) { "\r\n" } else { "\n" }
    }

    /// Puts another text in the place of a line, and keeps its end.
    pub(super) fn replace(&mut self, at: usize, text: &str, meaning: M) {
        if let Some(line) = self.lines.get_mut(at) {
            let end = line.raw.split_off(trim_end(&line.raw).len());
            *line = Line { raw: format!("{text}{end}"), meaning };
        }
    }

    /// Puts a line before the one that is at `at` now; at the end when there is none.
    pub(super) fn insert(&mut self, at: usize, text: &str, meaning: M) {
        let ending = self.ending();
        let at = at.min(self.lines.len());
        if let Some(before) = at.checked_sub(1).and_then(|before| self.lines.get_mut(before))
            && !before.raw.ends_with('\n')
        {
            before.raw.push_str(ending);
        }
        self.lines.insert(at, Line { raw: format!("{text}{ending}"), meaning });
    }

    pub(super) fn remove(&mut self, at: usize) {
        if at < self.lines.len() {
            self.lines.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_lines_are_kept() {
        let mut lines = Lines::parse("a\r\nb\r\nc", |_| ());
        lines.replace(1, "B", ());
        lines.insert(3, "d", ());
        assert_eq!(lines.render(), "a\r\nB\r\nc\r\nd\r\n");
        lines.remove(0);
        lines.remove(9);
        assert_eq!((lines.render().as_str(), lines.len()), ("B\r\nc\r\nd\r\n", 3));
        let mut empty = Lines::parse("", |_| ());
        empty.insert(5, "x", ());
        assert_eq!(empty.render(), "x\n");
        // A carriage return alone ends nothing.
        assert_eq!(Lines::parse("a\r", |_| ()).get(0).unwrap().text(), "a\r");
    }
}
