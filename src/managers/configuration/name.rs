//! [`ChangeName`]: what the file of a change is called.

/// Who a change belongs to. Later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// The agent's defaults, which a user may change (guest logs).
    SystemBeforeUser,
    /// The user's configuration group.
    User,
    /// What the agent needs: paths, replication, TLS.
    System,
}

/// The user's group, and what every guest needs, have this id.
pub const COMMON: &str = "common";

impl Group {
    /// Trove's prefix (trove/guestagent/common/configuration.py: `ConfigurationManager`).
    fn prefix(self) -> &'static str {
        match self {
            Group::SystemBeforeUser => "10-system",
            Group::User => "20-user",
            Group::System => "50-system",
        }
    }
}

/// Name of a change: `<group>-<number>-<id>`, as Trove's `ImportOverrideStrategy` and `OneFileOverrideStrategy` make it. The number keeps the order in
/// which changes of a group came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeName {
    /// Whose it is.
    pub group: Group,
    /// From 1.
    pub number: u32,
    /// What it is for.
    pub id: String,
}

impl ChangeName {
    /// Reads the stem of a file's name; `None` when it is no change's.
    pub fn parse(stem: &str) -> Option<ChangeName> {
        let groups = [Group::SystemBeforeUser, Group::User, Group::System];
        let (group, rest) = groups.into_iter().find_map(|group| Some((group, stem.strip_prefix(group.prefix())?.strip_prefix('-')?)))?;
        let (number, id) = rest.split_once('-')?;
        let valid = !id.is_empty() && number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit());
        Some(ChangeName { group, number: number.parse().ok()?, id: id.to_owned() }).filter(|_| valid)
    }

    /// The stem of the file's name.
    pub fn stem(&self) -> String {
        format!("{}-{:03}-{}", self.group.prefix(), self.number, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_troves() {
        for stem in ["20-user-001-common", "50-system-002-master-replication", "10-system-012-enable_general_log", "50-system-1234-x"] {
            assert_eq!(ChangeName::parse(stem).unwrap().stem(), stem);
        }
        for other in ["20-user-1-common", "30-user-001-common", "20-user-001-", "mysqld", "20-user-+01-x", ""] {
            assert_eq!(ChangeName::parse(other), None, "{other}");
        }
    }
}
