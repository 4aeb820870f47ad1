//! Slots: what a source keeps of its log for one replica. Each replica makes its own, and takes it back.

use crate::error::Result;
use crate::op::Op;
use crate::system::postgresql::{Session, SqlText};

/// What the names of the agents' slots begin with.
const PREFIX: &str = "trove_replica_";

/// The slot of an instance. Names are of small letters, digits and underscores, and 63 long at most.
pub(super) fn name(guest_id: &str) -> String {
    let word = guest_id.chars().filter(char::is_ascii_alphanumeric).take(40).collect::<String>();
    format!("{PREFIX}{}", word.to_ascii_lowercase())
}

/// True for a name that [`name`] makes.
pub(super) fn is_made_up(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX);
    rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
}

/// Makes a slot that keeps the log from now on; one that has lost it is made again.
///
/// # Errors
/// There is no room for one (`max_replication_slots`), or somebody else uses it.
pub(super) async fn ensure(op: &Op, session: &Session<'_>, name: &str) -> Result<()> {
    let sql = SqlText::new("SELECT coalesce(wal_status, '') FROM pg_replication_slots WHERE slot_name = ").literal(name);
    match session.texts(op, format!("look for the slot {name}"), &sql).await?.pop().as_deref() {
        Some("lost") => drop_one(op, session, name).await?,
        Some(_) => return Ok(()),
        None => {}
    }
    let sql = SqlText::new("SELECT pg_create_physical_replication_slot(").literal(name).raw(", true)");
    session.run(op, format!("make the slot {name}"), &sql).await
}

/// Drops a slot, if it is there.
///
/// # Errors
/// It is in use, or the server refused.
pub(super) async fn drop_one(op: &Op, session: &Session<'_>, name: &str) -> Result<()> {
    let sql = SqlText::new("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = ").literal(name);
    session.run(op, format!("drop the slot {name}"), &sql).await
}

/// True when somebody uses it.
///
/// # Errors
/// The server refused.
pub(super) async fn is_active(op: &Op, session: &Session<'_>, name: &str) -> Result<bool> {
    let sql = SqlText::new("SELECT slot_name FROM pg_replication_slots WHERE active AND slot_name = ").literal(name);
    Ok(!session.texts(op, format!("look for the slot {name}"), &sql).await?.is_empty())
}

/// Drops slots of replicas that nobody is connected with: all of them, when nobody follows this server any more; else those that have lost their log, and are of no use to
/// whoever comes back.
///
/// # Errors
/// The server refused.
pub(super) async fn drop_idle(op: &Op, session: &Session<'_>, all: bool) -> Result<()> {
    let sql =
        SqlText::new("SELECT slot_name, coalesce(wal_status, '') FROM pg_replication_slots WHERE NOT active AND slot_type = 'physical'");
    for row in session.rows(op, "look for slots of former replicas", &sql).await? {
        if let [Some(name), Some(status)] = row.as_slice()
            && is_made_up(name)
            && (all || status == "lost")
        {
            tracing::info!(slot = name, status, "dropping the slot of a replica that is gone");
            drop_one(op, session, name).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_makes_a_name_and_only_those_are_dropped() {
        assert_eq!(name("4f0C9f0e-8b7a"), "trove_replica_4f0c9f0e8b7a");
        assert!(name(&"x".repeat(64)).len() <= 63 && is_made_up(&name("4f0C9f0e-8b7a")));
        for other in ["trove_replica_", "trove_replica_A", "trove_backup_1", "mine", "trove_replica_1'--"] {
            assert!(!is_made_up(other), "{other}");
        }
    }
}
