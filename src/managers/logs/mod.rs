//! Logs of the guest that its user may publish: `guest_log_list` and `guest_log_action`. What is in the object store, and how it is named, is
//! what Trove's agents store (trove/guestagent/guest_log.py), so that `openstack database log tail` and `log save` read either's.

mod definition;
mod flow;
mod lines;
mod object_names;
mod publication;
mod record;

pub use definition::{GuestLogs, LogAction, LogDefinition, LogKind, LogState};
pub use flow::{LogDetails, LogEnv, action, list};
