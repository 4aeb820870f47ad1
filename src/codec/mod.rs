//! Configuration files as documents that keep every line they do not change. Pure text: no files, no programs.

mod document;
mod flat;
mod lines;
pub(crate) mod my_cnf;
mod postgresql;
mod properties;
mod redis;
pub mod text;
mod yaml;
mod yaml_value;

pub use document::Document;
pub use flat::{Entry, Flat, Syntax};
pub use my_cnf::OptionFile;
pub use postgresql::{PostgreSqlConf, PostgreSqlSyntax};
pub use properties::{Properties, PropertySyntax};
pub use redis::{RedisConf, RedisSyntax};
pub use yaml::Yaml;
