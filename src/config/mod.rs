//! The agent's settings: files in oslo.config's dialect in, one validated [`Settings`] out.

mod settings;

pub use settings::{
    AccountSettings, BrokerHost, BrokerSettings, DatastoreSettings, LogSettings, LoginMethod, QuorumSettings, ServiceControlKind, Settings,
    TlsSettings, VolumeSettings,
};
