//! The agent's user in the database, `admin.os_admin`.

use mongodb::bson::{Bson, Document, doc};
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::mongodb::{OS_ADMIN, Session};

/// The database of the agent's user, and of what is of the whole server.
pub(super) const ADMIN: &str = "admin";
/// "User already exists" (src/mongo/base/error_codes.yml).
pub(super) const EXISTS: u16 = 51003;
/// Trove's `MONGO_ADMIN_ROLES`, and those that backups need (manual, "Built-In Roles").
const ROLES: [&str; 6] = ["userAdminAnyDatabase", "dbAdminAnyDatabase", "clusterAdmin", "readWriteAnyDatabase", "backup", "restore"];

/// A command about the agent's user.
fn command(name: &str, password: &SecretString) -> Document {
    let roles: Vec<Bson> = ROLES.iter().map(|role| doc! {"role": *role, "db": ADMIN}.into()).collect();
    doc! {name: OS_ADMIN, "pwd": password.expose_secret(), "roles": roles}
}

/// Makes the user; the first one of a server, by the localhost exception.
///
/// # Errors
/// The server refuses: there is somebody already.
pub(super) async fn create(op: &Op, session: &Session, password: &SecretString) -> Result<()> {
    session.run(op, "create the agent's user in the database", ADMIN, command("createUser", password)).await.map(drop)
}

/// Makes the user, or gives it a new password and its roles: whatever became of it.
///
/// # Errors
/// The server refuses.
pub(super) async fn set(op: &Op, session: &Session, password: &SecretString) -> Result<()> {
    match create(op, session, password).await {
        Err(Error::Database { code: Some(EXISTS), .. }) => {
            let update = command("updateUser", password);
            session.run(op, "give the agent's user in the database a new password", ADMIN, update).await.map(drop)
        }
        other => other,
    }
}
