//! The RPC wire: what oslo.messaging and Trove's serializers put on RabbitMQ, and nothing of any datastore.

mod args;
mod backup;
mod client_tls;
mod conductor;
mod connection;
mod crypto;
mod dispatch;
#[cfg(test)]
mod docs;
mod envelope;
mod failure;
mod heartbeat;
mod keyring;
mod lanes;
mod method;
mod outbox;
mod publisher;
mod receipts;
mod recovery;
mod replication;
mod reply;
mod request;
mod sender;
mod server;
mod shape;
mod socket;
mod tls;
mod topology;
mod upgrade;
mod work;

pub use conductor::Conductor;
pub use connection::{Broker, ConnectionPurpose};
pub use crypto::InstanceKey;
pub use dispatch::Dispatcher;
pub use envelope::{Incoming, fresh_id, open, open_value, seal};
pub use heartbeat::Heartbeat;
pub use keyring::KeyRing;
pub use method::{Lane, Method, Resume};
pub use publisher::Publisher;
pub use request::Request;
pub use server::RpcServer;
pub use topology::queue_name;
