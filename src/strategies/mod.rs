//! How a datastore does what several datastores do: backups and their storage. Strategies know programs, servers and storage; they do not know
//! managers or the wire.

pub mod backup;
pub mod storage;
