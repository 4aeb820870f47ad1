//! Text that quoting has to survive, made up by the same dice at every run.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// How many values a test of quoting sends to a server.
pub(crate) const CASES: usize = 1500;

/// Values of a strategy, the same at every run.
pub(crate) fn samples<S: Strategy>(strategy: S) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..CASES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Quotes of every language, what ends a string or a statement, and anything else.
pub(crate) fn hostile() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("'".to_owned()),
        Just("\"".to_owned()),
        Just("`".to_owned()),
        Just("\\".to_owned()),
        Just("\0".to_owned()),
        Just("\u{1a}".to_owned()),
        Just("\n".to_owned()),
        Just("-- ".to_owned()),
        Just("$$".to_owned()),
        Just("%_".to_owned()),
        Just("😀".to_owned()),
        Just("\u{202e}".to_owned()),
        any::<String>(),
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}
