//! [`Package`]: one entry of a package list.

use crate::error::{Error, Result};

/// `name` or `name=version`, checked: it becomes an argument of a program that runs as root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package<'a> {
    /// Name as the package manager knows it, perhaps with `:architecture`.
    pub(super) name: &'a str,
    /// Exact version, or one that ends in `*`.
    pub(super) version: Option<&'a str>,
}

impl<'a> Package<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let (name, version) = match text.split_once('=') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let package = Package { name, version };
        if package.is_valid() {
            Ok(package)
        } else {
            Err(Error::invalid(format!("{text:?} is not a package: name or name=version is needed")))
        }
    }

    fn is_valid(&self) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-._:".contains(c);
        let name = self.name.starts_with(|c: char| c.is_ascii_alphanumeric())
            // apt-get takes "name-" for "remove name".
            && !self.name.ends_with('-')
            && self.name.chars().all(plain);
        let version = self.version.is_none_or(|version| {
            version.starts_with(|c: char| c.is_ascii_alphanumeric())
                && version.strip_suffix('*').unwrap_or(version).chars().all(|c| plain(c) || c == '~')
        });
        name && version
    }

    /// True when `installed` is what was asked for.
    pub(super) fn accepts(&self, installed: &str) -> bool {
        match self.version {
            None => true,
            Some(version) => version.strip_suffix('*').map_or(installed == version, |prefix| installed.starts_with(prefix)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions() {
        let package = Package::parse("mariadb-server=1:10.11.6-0+deb12u1").unwrap();
        assert_eq!(package, Package { name: "mariadb-server", version: Some("1:10.11.6-0+deb12u1") });
        assert!(package.accepts("1:10.11.6-0+deb12u1") && !package.accepts("1:10.11.6-0+deb12u10"));
        assert!(Package::parse("g++").unwrap().accepts("anything"));
        let glob = Package::parse("mysql-server-5.6=5.6.*").unwrap();
        assert!(glob.accepts("5.6.51-1") && !glob.accepts("5.7.1"));
    }

    #[test]
    fn what_could_be_an_option_or_a_removal_is_refused() {
        for text in ["", "-y", "--reinstall", "mysql-server-", "a b", "a;b", "a=", "a=-1", "a=1 2", "a/b", "ä", "*", "./x.deb"] {
            assert!(Package::parse(text).is_err(), "{text:?}");
        }
    }
}
