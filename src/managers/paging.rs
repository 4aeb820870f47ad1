//! [`paged`]: the end of a query that lists something in pages.

use crate::model::PageRequest;
use crate::system::sql::{Quoting, SqlText};

/// The order of a list, in the words of its server.
pub(super) struct Order {
    /// What a marker is compared with.
    pub(super) by: &'static str,
    /// What stands around a marker, so that it is compared byte by byte.
    pub(super) marker: [&'static str; 2],
}

/// Ends `sql`, whose last part is a condition, with the rows that are asked for, and one more when there are more.
pub(super) fn paged<Q: Quoting>(mut sql: SqlText<Q>, order: &Order, page: &PageRequest) -> SqlText<Q> {
    let [before, after] = order.marker;
    if let Some(marker) = page.marker.as_deref().filter(|marker| !marker.is_empty()) {
        sql = sql.raw(" AND ").raw(order.by).raw(if page.include_marker { " >= " } else { " > " });
        sql = sql.raw(before).literal(marker).raw(after);
    }
    sql = sql.raw(" ORDER BY ").raw(order.by);
    match page.limit {
        Some(limit) => sql.raw(" LIMIT ").number(limit.saturating_add(1) as u64),
        None => sql,
    }
}
