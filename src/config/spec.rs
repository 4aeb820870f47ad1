//! What an option is: the declaration from which parsing, defaults and documentation all come.

use super::value::Kind;

/// Stands for the group named like `datastore_manager`.
pub const DATASTORE: &str = "<datastore>";

/// Declaration of one option.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// Group: `DEFAULT`, another name, or [`DATASTORE`].
    pub group: &'static str,
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Default, in the words of a file; it may refer to other options. `None` is no value.
    pub default: Option<&'static str>,
    /// Other places the option may be given at, `(group, name)`, in oslo's order. Within one file the own name wins; a later
    /// file wins over an earlier one whatever the name.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Datastores for which `aliases` hold; empty is all.
    pub aliases_for: &'static [&'static str],
    /// Whether the value is a credential.
    pub secret: bool,
    /// Releases of Trove or oslo.messaging that know it: K(ilo), T(rain), Z(ed), M(aster, 2026.1); `own` is this agent's.
    pub era: &'static str,
    /// One sentence for the documentation.
    pub help: &'static str,
}

impl OptionSpec {
    /// An option without default, aliases or secrecy.
    pub const fn new(group: &'static str, name: &'static str, kind: Kind) -> Self {
        OptionSpec { group, name, kind, default: None, aliases: &[], aliases_for: &[], secret: false, era: "", help: "" }
    }

    /// With a default.
    #[must_use]
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    /// With other names.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [(&'static str, &'static str)]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Whose other names hold for some datastores only.
    #[must_use]
    pub const fn aliases_for(mut self, datastores: &'static [&'static str]) -> Self {
        self.aliases_for = datastores;
        self
    }

    /// A credential: never shown.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// With what the documentation says of it.
    #[must_use]
    pub const fn doc(mut self, era: &'static str, help: &'static str) -> Self {
        self.era = era;
        self.help = help;
        self
    }

    /// Whether a mistake may quote the value. Names are judged as well as declarations, since a wrong value may be a
    /// credential that was put in the wrong place.
    pub(super) fn may_be_shown(&self) -> bool {
        !self.secret && !is_secret_name(self.name)
    }
}

/// Whether the name of an option suggests a credential.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    ["password", "passwd", "passphrase", "key", "secret", "token", "url", "credential", "connection"].iter().any(|word| name.contains(word))
}
