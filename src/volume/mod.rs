//! The data volume.
