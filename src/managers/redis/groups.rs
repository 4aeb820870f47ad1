//! Configuration groups ([`ConfigGroups`]).

use async_trait::async_trait;
use secrecy::SecretString;

use super::configuration::refuse_own;
use super::directives::Directives;
use super::running::{Running, joined, names};
use crate::codec::{Document, RedisConf};
use crate::error::{Error, Result};
use crate::managers::ConfigGroups;
use crate::managers::configuration::{COMMON, Group};
use crate::model::Overrides;
use crate::op::Op;

/// The configuration group of one server.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) running: Running,
}

/// A group, as a document.
///
/// # Errors
/// Something of it cannot stand in the file, or belongs to the agent.
pub(super) fn parse(overrides: &Overrides) -> Result<RedisConf> {
    let document = match overrides {
        Overrides::Text(text) => RedisConf::parse(text),
        Overrides::Values(values) => {
            let mut document = RedisConf::parse("");
            values.iter().try_for_each(|(name, value)| document.set_directive(name, value))?;
            document
        }
    };
    document.names().iter().try_for_each(|name| refuse_own(name))?;
    Ok(document)
}

#[async_trait]
impl ConfigGroups for Groups {
    async fn update(&self, op: &Op, overrides: &Overrides, remove: bool) -> Result<()> {
        if overrides.is_empty() && !remove {
            return Ok(());
        }
        let configuration = &self.running.configuration;
        let before = configuration.read()?;
        let mut after = before.clone();
        after.remove_change(Group::User, COMMON);
        if !overrides.is_empty() {
            after.set_change(Group::User, COMMON, parse(overrides)?);
        }
        let change = configuration.try_out(op, before, after).await?;
        let dropped = &names(&change.before, Group::User, COMMON) - &names(&change.after, Group::User, COMMON);
        // A password may be among it.
        configuration.keep_password()?;
        configuration.write(op, &change).await?;
        self.running.settle(op, &change, &dropped).await?;
        let waits_for_apply = names(&change.after, Group::User, COMMON).contains("requirepass");
        if waits_for_apply { Ok(()) } else { configuration.forget_password() }
    }

    async fn apply(&self, op: &Op, overrides: &Overrides) -> Result<()> {
        if overrides.is_empty() {
            return Ok(());
        }
        let document = parse(overrides)?;
        let value = |name: String| (name.clone(), joined(&document, &name));
        let wanted: Vec<(String, SecretString)> = document.names().into_iter().map(value).collect();
        let changed: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
        let waiting = self.running.set(op, wanted).await?;
        let group = self.running.configuration.read()?;
        let written = names(&group, Group::User, COMMON);
        // One that is in no file would wait for ever.
        if let Some(name) = waiting.iter().find(|name| !written.contains(*name)) {
            return Err(Error::bad_request(format!(
                "the server takes '{name}' at its start only, and the instance's configuration group does not have it: put it there, and restart the database"
            )));
        }
        self.running.pending.settle(op, &*self.running.service, &changed, &waiting).await?;
        self.running.configuration.forget_password()
    }
}
