//! [`Reserved`]: accounts and databases that are the server's or the agent's own.

use super::Descriptor;
use crate::config::AccountSettings;
use crate::error::{Error, Result};

/// The reserved names of this guest, lower case: `ignore_users` and `ignore_dbs` where they are set, else the datastore's own.
#[derive(Debug, Clone)]
pub struct Reserved {
    users: Vec<String>,
    databases: Vec<String>,
}

impl Reserved {
    /// Those of a datastore on this guest.
    pub fn new(descriptor: &Descriptor, accounts: &AccountSettings) -> Reserved {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let list = |names: &[&str], set: &Option<Vec<String>>| -> Vec<String> {
            set.clone().unwrap_or_else(|| own(names)).iter().map(|name| name.to_lowercase()).collect()
        };
        Reserved {
            users: list(descriptor.ignore_users, &accounts.ignore_users),
            databases: list(descriptor.ignore_dbs, &accounts.ignore_dbs),
        }
    }

    /// Accounts.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.iter().map(String::as_str)
    }

    /// Databases.
    pub fn databases(&self) -> impl Iterator<Item = &str> {
        self.databases.iter().map(String::as_str)
    }

    /// A name that is not the agent's or the root's.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] in Trove's words.
    pub fn check_user(&self, name: &str) -> Result<()> {
        match self.users.contains(&name.to_lowercase()) {
            true => Err(Error::invalid(format!("User name \"{name}\" is on the reserved list: {}.", self.users.join(", ")))),
            false => Ok(()),
        }
    }

    /// A name that is not one of the server's own databases.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] in Trove's words.
    pub fn check_database(&self, name: &str) -> Result<()> {
        match self.databases.contains(&name.to_lowercase()) {
            true => Err(Error::invalid(format!("Database name \"{name}\" is on the reserved list: {}.", self.databases.join(", ")))),
            false => Ok(()),
        }
    }
}
