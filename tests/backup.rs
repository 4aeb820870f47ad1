//! The stream between backup tool and storage: round trips, faults, and the stock tools on the other side.
#![expect(clippy::unwrap_used, reason = "a test ends with the reason")]

mod backup {
    mod memory;
    mod restore;
    mod stock;
    mod store;
    mod support;
    mod tools;
}
