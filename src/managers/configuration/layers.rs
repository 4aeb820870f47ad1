//! [`Layers`]: a whole configuration as a value.

use std::collections::BTreeMap;

use super::name::{ChangeName, Group};
use crate::codec::Document;
use crate::error::Result;

/// The base and the changes upon it. A change of configuration is made here, shown to the server, and written when the server takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layers<D> {
    /// What the controller's template says.
    pub base: D,
    /// By the stem of the file's name, which is their order; files that are not the agent's are among them.
    pub(super) changes: BTreeMap<String, D>,
}

impl<D: Document> Layers<D> {
    /// A base without changes.
    pub fn new(base: D) -> Layers<D> {
        Layers { base, changes: BTreeMap::new() }
    }

    /// Every change, in the order in which they count: the last one wins.
    pub fn changes(&self) -> impl Iterator<Item = (&str, &D)> {
        self.changes.iter().map(|(stem, document)| (stem.as_str(), document))
    }

    fn names<'a>(&'a self, group: Group) -> impl Iterator<Item = ChangeName> + 'a {
        self.changes.keys().filter_map(|stem| ChangeName::parse(stem)).filter(move |name| name.group == group)
    }

    fn stems(&self, group: Group, id: &str) -> Vec<String> {
        self.names(group).filter(|name| name.id == id).map(|name| name.stem()).collect()
    }

    /// A change; the one that counts, should another agent have left several of one id.
    pub fn change(&self, group: Group, id: &str) -> Option<&D> {
        self.changes.get(self.stems(group, id).last()?)
    }

    /// Puts a change in the place of the one of this id, or after all others of its group.
    pub fn set_change(&mut self, group: Group, id: &str, document: D) {
        let stem = self.stems(group, id).pop().unwrap_or_else(|| {
            let number = self.names(group).map(|name| name.number).max().unwrap_or_default() + 1;
            ChangeName { group, number, id: id.to_owned() }.stem()
        });
        self.remove_change(group, id);
        self.changes.insert(stem, document);
    }

    /// [`Self::set_change`] with a number of its own, for changes whose files have fixed names.
    pub fn place_change(&mut self, name: &ChangeName, document: D) {
        self.remove_change(name.group, &name.id);
        self.changes.insert(name.stem(), document);
    }

    /// Removes a change; false when there was none.
    pub fn remove_change(&mut self, group: Group, id: &str) -> bool {
        let stems = self.stems(group, id);
        stems.iter().for_each(|stem| drop(self.changes.remove(stem)));
        !stems.is_empty()
    }

    /// All layers in one document, for servers that read one file.
    ///
    /// # Errors
    /// A setting of one layer cannot stand in the base.
    pub fn merged(&self) -> Result<D> {
        let mut all = self.base.clone();
        self.changes.values().try_for_each(|document| all.overlay(document))?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::OptionFile;

    #[test]
    fn changes_keep_their_places_and_their_owners() {
        let doc = |text: &str| OptionFile::parse(text);
        let mut layers = Layers::new(doc("[mysqld]\na = 1\n"));
        layers.set_change(Group::System, "common", doc("[mysqld]\na = 5\n"));
        layers.set_change(Group::System, "tls", doc("[mysqld]\nb = 5\n"));
        layers.set_change(Group::User, "common", doc("[mysqld]\na = 2\nc = 2\n"));
        layers.set_change(Group::System, "common", doc("[mysqld]\na = 6\n"));
        layers.set_change(Group::SystemBeforeUser, "log", doc("[mysqld]\nc = 1\n"));
        let stems: Vec<_> = layers.changes().map(|(stem, _)| stem).collect();
        assert_eq!(stems, ["10-system-001-log", "20-user-001-common", "50-system-001-common", "50-system-002-tls"]);
        assert_eq!(layers.merged().unwrap().render(), "[mysqld]\na = 6\nc = 2\nb = 5\n");
        assert!(layers.remove_change(Group::User, "common") && !layers.remove_change(Group::User, "common"));
        assert_eq!(layers.merged().unwrap().render(), "[mysqld]\na = 6\nc = 1\nb = 5\n");
        assert_eq!(layers.change(Group::System, "tls"), Some(&doc("[mysqld]\nb = 5\n")));
    }
}
