//! The running server reads its files again.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::postgresql::{Client, Session, SqlText};

/// How long a server may take to read its files again.
const RELOAD: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// Has the running server read its files again, and waits until it has. Returns what it takes at its next start only.
///
/// # Errors
/// It refuses a value that it accepted when it was shown the files: its words are in the error.
pub(super) async fn reload(op: &Op, client: &Client) -> Result<Vec<String>> {
    let session = client.session(op).await?;
    let loaded = async |session: &Session<'_>| {
        let sql = SqlText::new("SELECT extract(epoch FROM pg_conf_load_time())");
        session.texts(op, "ask when the configuration was read", &sql).await
    };
    let before = loaded(&session).await?;
    session.run(op, "have the configuration read again", &SqlText::new("SELECT pg_reload_conf()")).await?;
    let deadline = Instant::now() + RELOAD;
    let mut look = tokio::time::interval(LOOK);
    loop {
        op.until_cancelled("wait until the configuration is read again", look.tick()).await?;
        // A session reads it for itself, between two statements.
        if loaded(&session).await? != before {
            break;
        }
        if Instant::now() >= deadline {
            let action = "wait until the server has read its configuration again".into();
            return Err(Error::Timeout { action, after: RELOAD, detail: String::new() });
        }
    }
    let sql = SqlText::new("SELECT name FROM pg_settings WHERE pending_restart");
    let waiting = session.texts(op, "ask what waits for a restart", &sql).await?;
    let sql = SqlText::new("SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL AND name IS NOT NULL");
    let errors = session.rows(op, "ask what is wrong with the configuration", &sql).await?;
    for row in errors {
        if let [Some(name), Some(error)] = row.as_slice()
            && !waiting.contains(name)
        {
            return Err(Error::bad_request(format!("the server refuses the value of '{name}': {error}")));
        }
    }
    Ok(waiting)
}
