//! A server's part in a sharded cluster (trove/common/strategies/cluster/experimental/mongodb): which role it has, and what the task manager asks it for.

mod calls;
mod changes;
mod clock;
mod hosts;
mod peers;
mod replica_set;
mod role;
mod set;

pub(super) use calls::Cluster;
pub(super) use changes::{Again, Changes};
pub(super) use peers::cluster_login;
pub(super) use replica_set::NOT_IN_A_SET;
pub(super) use role::{CLUSTERING, Membership, Role, is_waiting, to_be_read};
