//! The agent's settings: files in oslo.config's dialect in, one validated [`Settings`] out.

mod broker;
mod build;
#[cfg(test)]
mod docs;
mod error;
mod ini;
mod lookup;
mod options;
mod reader;
mod settings;
mod sources;
mod spec;
mod storage;
mod substitute;
mod transport_url;
mod value;
mod words;

pub use error::{ConfigError, ConfigErrors, Origin};
pub use ini::{IniEntry, IniError, IniFile, parse_ini};
pub use lookup::{Layers, LoadedFile, Lookup, Outcome};
pub use options::OPTIONS;
pub use settings::{
    AccountSettings, BackupSettings, BrokerHost, BrokerSettings, CredentialSettings, DatastoreSettings, FailoverStrategy, GuestLogSettings,
    Identity, LogSettings, LoginMethod, ManifestKind, MetricsSettings, OptionOutcome, QuorumSettings, ServiceControlKind, Settings,
    StorageSettings, TlsMode, TlsSettings, TlsVersion, VolumeSettings,
};
pub use sources::{ConfigArgument, FileStamp, Sources};
pub use spec::{DATASTORE, OptionSpec};
pub use transport_url::{TransportUrl, UrlHost};
pub use value::{Kind, Value};
