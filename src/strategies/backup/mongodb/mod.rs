//! Backups of MongoDB: archives as `mongodump` makes them.

pub mod archive;
