//! Names and places of stored objects.

use std::fmt;

use crate::error::{Error, Result};

/// A container and an object in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectName {
    /// Container.
    pub container: String,
    /// Object.
    pub object: String,
}

impl ObjectName {
    /// `container/object`.
    pub fn new(container: impl Into<String>, object: impl Into<String>) -> Self {
        ObjectName { container: container.into(), object: object.into() }
    }

    /// Name of segment `index` of this object: `<name up to the first dot>_%08d`, in the same container
    /// (trove/guestagent/strategies/storage/swift.py: StreamReader.segment).
    #[must_use]
    pub fn segment(&self, index: usize) -> ObjectName {
        ObjectName { container: self.container.clone(), object: format!("{}{index:08}", self.segment_prefix()) }
    }

    /// What the names of all its segments begin with, and no other object's does.
    pub fn segment_prefix(&self) -> String {
        let base = self.object.split('.').next().unwrap_or_default();
        format!("{base}_")
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.object)
    }
}

/// `<storage url>/<container>/<object>`: what Trove keeps of a finished backup. Only the last two parts say where it is: the account is the caller's
/// (trove/guestagent/strategies/storage/swift.py: _explodeLocation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    text: String,
    name: ObjectName,
}

impl Location {
    /// Takes a location apart.
    ///
    /// # Errors
    /// It does not end with a container and an object.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.rsplitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(object), Some(container), Some(url)) if !object.is_empty() && !container.is_empty() && !url.is_empty() => {
                Ok(Location { text: text.to_owned(), name: ObjectName::new(container, object) })
            }
            _ => Err(Error::invalid(format!("the location '{text}' of the backup is not <storage url>/<container>/<object>"))),
        }
    }

    /// Container and object.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_parts_say_where() {
        let location = Location::parse("http://swift:8080/v1/AUTH_t/database_backups/b1.xbstream.gz.enc").unwrap();
        assert_eq!(location.name(), &ObjectName::new("database_backups", "b1.xbstream.gz.enc"));
        assert_eq!(location.name().segment(7).to_string(), "database_backups/b1_00000007");
        for bad in ["", "object", "container/object", "http://swift/v1//o", "/c/"] {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
    }
}
