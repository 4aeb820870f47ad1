//! Pages of `docs/` that have a part made from the code. `UPDATE_DOCS=1 cargo test` rewrites it.

use std::fs;
use std::path::Path;

/// Between `<!-- {subject}: …` and `<!-- end of {subject} -->` the page must have this very text; `test` is what rewrites it.
pub(crate) fn check(page: &str, subject: &str, wanted: &str, test: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let begin = format!("<!-- {subject}: generated; rewrite with UPDATE_DOCS=1 cargo test --lib {test} -->\n");
    let end = format!("<!-- end of {subject} -->\n");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("docs/{page} lacks the line {begin}"));
    let (now, after) = rest.split_once(&end).unwrap_or_else(|| panic!("docs/{page} lacks the line {end}"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
    } else {
        assert_eq!(now, wanted, "docs/{page} is stale: run UPDATE_DOCS=1 cargo test --lib {test}");
    }
}
