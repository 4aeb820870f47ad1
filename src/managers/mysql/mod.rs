//! MySQL, Percona Server and MariaDB: one family. What differs between them is asked of the running server
//! ([`Flavor`]), never of the manager's name.

mod accounts;
mod backups;
mod bootstrap;
mod catalog;
mod client;
mod configuration;
mod credentials;
mod databases;
mod descriptor;
mod examine;
mod flavor;
mod foreign;
mod grants;
mod groups;
mod layout;
mod load;
mod manager;
mod names;
mod option_file;
mod private_server;
mod probe;
mod quote;
mod restoring;
mod root;
mod secure;
mod server;
mod upgrade;
mod variables;

pub use client::{Client, Login, Session};
pub use credentials::OS_ADMIN;
pub use descriptor::{MARIADB, MYSQL, PERCONA};
pub use flavor::{Flavor, Kind, Version};
pub use layout::Layout;
pub use manager::MySqlManager;
pub use quote::{Account, Ident, Literal, SqlText};
