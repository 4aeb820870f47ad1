//! Configuration groups ([`ConfigGroups`]). The server tells which parameters it takes when it reads its files again, and which wait for its next start
//! (`pg_settings.pending_restart`).

use std::sync::Arc;

use async_trait::async_trait;

use super::configuration::{Conf, Configuration, names, refuse_own};
use super::reload::reload;
use crate::codec::{Document, PostgreSqlConf};
use crate::error::{Error, Result};
use crate::managers::ConfigGroups;
use crate::managers::configuration::{COMMON, Group, Pending};
use crate::model::Overrides;
use crate::op::Op;
use crate::system::postgresql::Client;
use crate::system::service::{ServiceControl, UnitState};

/// The configuration groups of one server.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) client: Arc<Client>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) pending: Arc<Pending>,
}

/// A group, as a document.
///
/// # Errors
/// Something of it cannot stand in the file, or belongs to the agent.
pub(super) fn parse(overrides: &Overrides) -> Result<PostgreSqlConf> {
    let document = match overrides {
        Overrides::Text(text) => {
            let is_include = |line: &str| line.trim_start().to_ascii_lowercase().starts_with("include");
            if text.lines().any(is_include) {
                return Err(Error::bad_request("a configuration group must not include files"));
            }
            PostgreSqlConf::parse(text)
        }
        Overrides::Values(values) => {
            let mut document = PostgreSqlConf::parse("");
            values.iter().try_for_each(|(name, value)| document.set(&[name], value))?;
            document
        }
    };
    names(Some(&document)).iter().try_for_each(|name| refuse_own(name))?;
    Ok(document)
}

impl Groups {
    async fn is_running(&self, op: &Op) -> Result<bool> {
        Ok(matches!(self.service.state(op).await?, UnitState::Running { .. }))
    }

    /// Makes changes of the agent's own, in the files and in the running server.
    ///
    /// # Errors
    /// The server refuses; files and server are as they were.
    pub(super) async fn change_own(&self, op: &Op, change: impl FnOnce(&mut Conf)) -> Result<()> {
        let before = self.configuration.read()?;
        let mut after = before.clone();
        change(&mut after);
        self.configuration.check(op, &after).await?;
        self.carry_out(op, &before, &after, true).await
    }

    async fn settle(&self, op: &Op) -> Result<()> {
        let waiting = reload(op, &self.client).await?;
        match waiting.is_empty() {
            // What was taken back before it took effect waits no more.
            true => self.pending.clear(),
            false => self.pending.settle(op, &*self.service, &waiting, &waiting).await,
        }
    }

    /// Writes a change, and brings the running server in line with it when that is wanted.
    async fn carry_out(&self, op: &Op, before: &Conf, after: &Conf, at_once: bool) -> Result<()> {
        self.configuration.write(op, before, after).await?;
        if !at_once || !self.is_running(op).await? {
            return Ok(());
        }
        match self.settle(op).await {
            Err(error @ Error::BadRequest { .. }) => {
                self.configuration.write(op, after, before).await?;
                reload(op, &self.client).await?;
                Err(error)
            }
            other => other,
        }
    }
}

#[async_trait]
impl ConfigGroups for Groups {
    async fn update(&self, op: &Op, overrides: &Overrides, remove: bool) -> Result<()> {
        if overrides.is_empty() && !remove {
            return Ok(());
        }
        let before = self.configuration.read()?;
        let mut after = before.clone();
        after.remove_change(Group::User, COMMON);
        if !overrides.is_empty() {
            after.set_change(Group::User, COMMON, parse(overrides)?);
        }
        self.configuration.check(op, &after).await?;
        let of = |layers: &Conf| names(layers.change(Group::User, COMMON));
        let dropped = &of(&before) - &of(&after);
        // Those go back to what they were without the group; what it sets waits for `apply`.
        self.carry_out(op, &before, &after, !dropped.is_empty()).await
    }

    /// The files have the values already: a controller sends a group to [`Self::update`] first.
    async fn apply(&self, op: &Op, overrides: &Overrides) -> Result<()> {
        if overrides.is_empty() {
            return Ok(());
        }
        let written = names(self.configuration.read()?.change(Group::User, COMMON));
        if let Some(name) = names(Some(&parse(overrides)?)).iter().find(|name| !written.contains(*name)) {
            return Err(Error::bad_request(format!(
                "the instance's configuration group does not have '{name}': put it there before it is applied"
            )));
        }
        self.settle(op).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn values(value: Value) -> Overrides {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn nothing_but_parameters_gets_into_a_group() {
        for bad in
            [json!({"include": "/etc/shadow"}), json!({"x\ny": 1}), json!({"data_directory": "/"}), json!({"Port": 1}), json!({"": 1})]
        {
            assert!(parse(&values(bad.clone())).is_err(), "{bad}");
        }
        assert!(parse(&Overrides::Text(" include_dir '/etc'\n".into())).is_err());
        let file = parse(&values(json!({"work_mem": "16MB", "fsync": true, "log_line_prefix": "%m'\nport = 1"}))).unwrap();
        assert_eq!(file.render(), "fsync = on\nlog_line_prefix = '%m''\\nport = 1'\nwork_mem = '16MB'\n");
    }
}
