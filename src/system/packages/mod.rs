//! Installing packages: apt, dnf or yum, whichever the guest has.

mod apt;
mod manager;
mod package;
mod rpm;

pub use apt::Apt;
pub use manager::{PackageManager, detect};
pub use rpm::{Rpm, RpmInstaller};
