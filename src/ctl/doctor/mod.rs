//! `trove-guestctl doctor`: looks at everything a guest needs, and says what is wrong and what to do.

mod broker;
mod configuration;
mod database;
mod finding;
mod host;
mod object_store;
mod own;
mod patient;
mod report;
mod run;

pub(super) use run::run;
