//! How a data directory is filled ([`Filling`]).

use async_trait::async_trait;
use camino::Utf8Path;

use super::layout::Layout;
use super::program::ServerProgram;
use crate::error::Result;
use crate::managers::data_directory::{Filling, Place};
use crate::op::Op;

/// Filled by `initdb`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables<'a>(pub(super) &'a ServerProgram);

/// Where the data directory is.
pub(super) fn place(layout: &Layout) -> Place<'_> {
    Place { mount_point: &layout.mount_point, data_dir: &layout.data_dir, is_database: |directory| directory.join("PG_VERSION").is_file() }
}

#[async_trait]
impl Filling for Tables<'_> {
    /// The server refuses a directory that others can look into.
    fn mode(&self) -> u32 {
        0o700
    }

    async fn initialize(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        self.0.initialize(op, directory).await
    }
}
