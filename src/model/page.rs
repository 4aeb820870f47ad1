//! Paging of lists: `limit`, `marker`, `include_marker` in, items and the next marker out.

/// What a caller wants of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most this many items; all when absent.
    pub limit: Option<usize>,
    /// Items after this one (a database name, or `user@host`).
    pub marker: Option<String>,
    /// The marker itself too.
    pub include_marker: bool,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Items in marker order.
    pub items: Vec<T>,
    /// Marker of the last item returned if, and only if, there are more.
    pub next_marker: Option<String>,
}

impl<T> Page<T> {
    /// Cuts one item over `limit` off `items` and names the next marker. `items` must be sorted by `marker` and hold at
    /// most `limit + 1` elements.
    pub fn cut(mut items: Vec<T>, limit: Option<usize>, marker: impl Fn(&T) -> String) -> Self {
        let next_marker = match limit {
            Some(limit) if items.len() > limit => {
                items.truncate(limit);
                items.last().map(marker)
            }
            _ => None,
        };
        Page { items, next_marker }
    }
}
