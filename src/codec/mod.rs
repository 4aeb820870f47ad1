//! Configuration files as documents that keep every line they do not change. Pure text: no files, no programs.

mod document;
mod lines;
pub(crate) mod my_cnf;
pub mod text;

pub use document::Document;
pub use my_cnf::OptionFile;
