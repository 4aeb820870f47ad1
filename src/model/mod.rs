//! Types shared by the wire and the managers. Leaves: they know neither AMQP nor any datastore.

mod backup;
mod context;
mod database;
mod module;
mod page;
mod prepare;
mod release;
mod replication;
mod status;
mod user;

pub use backup::{BackupMetadata, BackupRequest, BackupState, BackupUpdate, ParentBackup, RestoreRequest};
pub use context::RequestContext;
pub use database::DatabaseSpec;
pub use module::{ModuleEnvelope, ModuleSpec};
pub use page::{Page, PageRequest};
pub use prepare::{Overrides, PrepareRequest};
pub use release::{Evidence, Release};
pub use replication::{Dataset, LastTxn, MemberRole, Opaque, ReplicaContext, ReplicaInfo, ReplicationUser, Source, SourceTls};
pub use status::ServiceStatus;
pub use user::{PasswordChange, UserAttributes, UserSpec};
