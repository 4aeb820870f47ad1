//! MongoDB.

mod accounts;
mod admin;
mod archive_restore;
mod backups;
mod cluster;
mod configuration;
mod data;
mod databases;
mod descriptor;
mod examine;
mod flat;
mod groups;
mod keeping;
mod layout;
mod logs;
mod manager;
mod names;
mod private_server;
mod program;
mod root;
mod running;
mod server;
mod service;
mod upgrading;

pub use descriptor::MONGODB;
pub use layout::Layout;
pub use manager::MongoDbManager;
pub use service::service;
