//! What Trove's Python agent stored: a directory of `mongodump --out`, in a tar (trove/guestagent/strategies/backup/experimental/mongo_impl.py).

mod dump;
mod load;
mod tar;

pub use load::{DirectoryLoad, look};
