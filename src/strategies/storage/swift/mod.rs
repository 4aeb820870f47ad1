//! Swift: [`SwiftStorage`], with the token of a request or of an account of Keystone's.

mod account;
mod auth;
mod body;
mod catalog;
mod client;
mod container;
mod delete;
mod headers;
mod inspect;
mod keystone;
mod large;
mod manifest;
mod objects;
mod refusal;
mod storage;
mod timestamp;

pub(super) use account::open;
