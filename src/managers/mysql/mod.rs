//! MySQL, Percona Server and MariaDB: one family. What differs between them is asked of the running server
//! ([`Flavor`]), never of the manager's name.

mod accounts;
mod backups;
mod bootstrap;
mod catalog;
mod configuration;
mod databases;
mod descriptor;
mod examine;
mod foreign;
mod grants;
mod groups;
mod layout;
mod load;
mod logs;
mod manager;
mod names;
mod private_server;
mod probe;
mod roles;
mod root;
mod secure;
mod server;
mod snapshots;
mod tls;
mod upgrade;
mod upgrading;
mod user_group;
mod variables;

pub use crate::system::mysql::{Account, Client, Flavor, Ident, Kind, Literal, Login, OS_ADMIN, Session, SqlText, Version};
use crate::system::mysql::{client, credentials, flavor, quote};
pub use descriptor::{MARIADB, MYSQL, PERCONA};
pub use layout::Layout;
pub use manager::MySqlManager;
