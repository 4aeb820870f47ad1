//! How a datastore does what several datastores do: backups, their storage, and replication. Strategies know programs, servers and storage; they do not know
//! managers or the wire.

pub mod backup;
pub mod replication;
pub mod storage;
