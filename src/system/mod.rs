//! The operating system, as the agent uses it: programs, files, services, packages, facts.

pub mod address;
pub mod certificates;
pub mod clock;
pub mod command;
pub mod facts;
pub mod files;
pub mod greeting;
pub mod leftovers;
pub mod mongodb;
pub mod mysql;
mod output;
pub mod packages;
pub mod password;
pub mod postgresql;
pub mod redis;
pub mod running;
pub mod service;
pub mod sql;
mod unit;
