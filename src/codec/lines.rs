//! [`Lines`]: a text cut into lines that keep their ends, and what each of them means.

/// A line: its text, and what ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<M> {
    text: String,
    end: String,
    pub(super) meaning: M,
}

impl<M> Line<M> {
    /// The line without its end.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// Lines that are rendered as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lines<M> {
    lines: Vec<Line<M>>,
}

/// Cuts off what ends a line.
pub(super) fn split_end(raw: &str) -> (&str, &str) {
    let text = raw.strip_suffix('\n').map_or(raw, |text| text.strip_suffix('\r').unwrap_or(text));
    raw.split_at(text.len())
}

impl<M> Lines<M> {
    /// Cuts a text at its newlines; `meaning` sees each line without its end.
    pub(super) fn parse(text: &str, meaning: impl FnMut(&str) -> M) -> Lines<M> {
        Lines::of(text.split_inclusive('\n').map(split_end), meaning)
    }

    /// Lines that somebody else has cut, with their ends.
    pub(super) fn of<'a>(lines: impl Iterator<Item = (&'a str, &'a str)>, mut meaning: impl FnMut(&str) -> M) -> Lines<M> {
        Lines { lines: lines.map(|(text, end)| Line { text: text.to_owned(), end: end.to_owned(), meaning: meaning(text) }).collect() }
    }

    pub(super) fn render(&self) -> String {
        self.lines.iter().flat_map(|line| [line.text.as_str(), line.end.as_str()]).collect()
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
    fn ending(&self) -> String {
        self.lines.iter().map(|line| &line.end).find(|end| !end.is_empty()).cloned().unwrap_or_else(|| "\n".to_owned())
    }

    /// Puts another text in the place of a line, and keeps its end.
    pub(super) fn replace(&mut self, at: usize, text: &str, meaning: M) {
        if let Some(line) = self.lines.get_mut(at) {
            *line = Line { text: text.to_owned(), end: std::mem::take(&mut line.end), meaning };
        }
    }

    /// Puts a line before the one that is at `at` now; at the end when there is none.
    pub(super) fn insert(&mut self, at: usize, text: &str, meaning: M) {
        let end = self.ending();
        let at = at.min(self.lines.len());
        if let Some(before) = at.checked_sub(1).and_then(|before| self.lines.get_mut(before))
            && before.end.is_empty()
        {
            before.end.clone_from(&end);
        }
        self.lines.insert(at, Line { text: text.to_owned(), end, meaning });
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
