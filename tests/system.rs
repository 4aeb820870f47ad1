//! Services, packages and volumes, against the real things: systemd in a booted guest, a docker engine, apt in a root of its own,
//! block devices. Needs root.
#![expect(clippy::unwrap_used, reason = "a test ends with the reason")]

mod system {
    mod docker;
    mod guest;
    mod packages;
    mod process;
    mod service_contract;
    mod support;
    mod systemd;
    mod volume;
}
