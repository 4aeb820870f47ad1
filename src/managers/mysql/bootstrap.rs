//! How the family fills a data directory ([`Filling`]).

use async_trait::async_trait;
use camino::Utf8Path;

use super::layout::Layout;
use super::server::ServerProgram;
use crate::error::Result;
use crate::managers::data_directory::{Filling, Place};
use crate::op::Op;

/// Filled by the server's program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables<'a> {
    pub(super) layout: &'a Layout,
    pub(super) program: &'a ServerProgram,
}

/// True for a directory with the server's own tables in it.
pub(super) fn is_initialized(directory: &Utf8Path) -> bool {
    directory.join("mysql").is_dir()
}

/// Where the data directory is.
pub(super) fn place(layout: &Layout) -> Place<'_> {
    Place { mount_point: &layout.mount_point, data_dir: &layout.data_dir, is_database: is_initialized }
}

#[async_trait]
impl Filling for Tables<'_> {
    fn mode(&self) -> u32 {
        0o750
    }

    async fn initialize(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        self.program.initialize(op, &self.layout.main_file, directory, None).await
    }
}
