//! Configuration groups ([`ConfigGroups`]), and changes of the agent's own that reach the running server.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::client::{Client, Session};
use super::configuration::Configuration;
use super::server::{KnownOptions, Reading};
use super::user_group;
use super::variables::{self, Old, Settled, Target};
use crate::codec::my_cnf::normalize;
use crate::codec::{Document, OptionFile};
use crate::error::{Error, Result};
use crate::managers::ConfigGroups;
use crate::managers::configuration::{COMMON, Group, Layers, Pending};
use crate::model::Overrides;
use crate::op::Op;
use crate::system::service::{ServiceControl, UnitState};

/// The configuration groups of one server.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) client: Arc<Client>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) pending: Arc<Pending>,
}

/// A change of the configuration on its way to the server.
struct Change {
    before: Layers<OptionFile>,
    after: Layers<OptionFile>,
    reading: Reading,
    known: KnownOptions,
}

impl Change {
    fn canonical(&self, name: &str) -> String {
        self.known.canonical(name).unwrap_or_else(|| name.to_owned())
    }

    /// Options of a document, under the server's names of them.
    fn options(&self, document: Option<&OptionFile>) -> BTreeSet<String> {
        document.into_iter().flat_map(OptionFile::server_options).map(|(name, _)| self.canonical(&name)).collect()
    }

    /// What the server would use from its files when it starts: its own answer, or its default where no file says anything.
    fn target(&self, name: &str) -> Target {
        let documents = std::iter::once(&self.after.base).chain(self.after.changes().map(|(_, document)| document));
        let written = documents.flat_map(OptionFile::server_options).filter(|(option, _)| self.canonical(option) == name).last();
        let Some((_, written)) = written else { return Target::Default };
        let said = self.reading.values.get(name).map(String::as_str).filter(|_| !user_group::LIMITED.contains(&name));
        said.or(written).map_or(Target::Default, Target::shown)
    }
}

impl Groups {
    async fn prepare(&self, op: &Op, before: Layers<OptionFile>, after: Layers<OptionFile>) -> Result<Change> {
        let reading = self.configuration.check(op, &after).await?;
        Ok(Change { before, after, reading, known: self.configuration.program.known_options(op).await? })
    }

    async fn is_running(&self, op: &Op) -> Result<bool> {
        Ok(matches!(self.service.state(op).await?, UnitState::Running { .. }))
    }

    /// Brings `names` of the running server to what its files will say, and writes these. What the server takes at its start only is returned.
    ///
    /// The server comes first: a crash in between leaves the old files, and the same call made again finds the same difference.
    async fn carry_out(&self, op: &Op, change: &Change, names: &BTreeSet<String>) -> Result<Vec<String>> {
        let targets: Vec<(String, Target)> = names.iter().map(|name| (name.clone(), change.target(name))).collect();
        let mut waiting = Vec::new();
        let mut old: Vec<Old> = Vec::new();
        if !targets.is_empty() && self.is_running(op).await? {
            let mut session = self.client.session(op).await?;
            let settled = variables::settle(op, &mut session, &targets, &[variables::READ_ONLY, variables::UNKNOWN]).await;
            session.close().await;
            let settled = settled?;
            (waiting, old) = (settled.waiting, settled.old);
        }
        if let Err(error) = self.configuration.write(&change.before, &change.after) {
            if !old.is_empty() {
                let mut session = self.client.session(op).await?;
                variables::put_back(op, &mut session, &old).await;
                session.close().await;
            }
            return Err(error);
        }
        Ok(waiting)
    }

    /// Notes what of a change the server takes at its next start.
    async fn note(&self, op: &Op, changed: impl IntoIterator<Item = String>, waiting: &[String]) -> Result<()> {
        // However they are written.
        let changed: Vec<String> = changed.into_iter().map(|name| normalize(&name)).collect();
        let waiting: Vec<String> = waiting.iter().map(|name| normalize(name)).collect();
        self.pending.settle(op, &*self.service, &changed, &waiting).await
    }

    /// Puts options of the agent's own into a layer (none: removes it) and brings the running server in line with it: all of it, or nothing. Returns
    /// what the server takes at its next start only.
    ///
    /// # Errors
    /// The server refuses an option or a value; files and server are as they were.
    pub(super) async fn change_system(&self, op: &Op, group: Group, id: &str, options: Option<OptionFile>) -> Result<Vec<String>> {
        let before = self.configuration.read()?;
        let mut after = before.clone();
        match options {
            Some(options) => after.set_change(group, id, options),
            None => drop(after.remove_change(group, id)),
        }
        let change = self.prepare(op, before, after).await?;
        let of = |layers: &Layers<OptionFile>| change.options(layers.change(group, id));
        let names = &of(&change.before) | &of(&change.after);
        let waiting = self.carry_out(op, &change, &names).await?;
        self.note(op, names, &waiting).await?;
        Ok(waiting)
    }

    /// Lets the running server look at values that it would find wrong only when it starts.
    async fn try_out(&self, op: &Op, group: &OptionFile, known: &KnownOptions, reading: &Reading) -> Result<()> {
        if group.server_options().next().is_none() || !self.is_running(op).await? {
            return Ok(());
        }
        let names = group.server_options().map(|(name, _)| known.canonical(&name).unwrap_or(name));
        let values: Vec<(String, Target)> =
            names.filter_map(|name| Some((Target::shown(reading.values.get(&name)?), name))).map(|(value, name)| (name, value)).collect();
        let mut session = self.client.session(op).await?;
        let tried = variables::try_out(op, &mut session, &values).await;
        session.close().await;
        tried.map_err(|error| Error::bad_request(format!("the server refuses a value of the configuration group: {error}")))
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
            let known = self.configuration.program.known_options(op).await?;
            let mut group = user_group::parse(overrides)?;
            user_group::check(&group, &known)?;
            let mut with = after.clone();
            with.set_change(Group::User, COMMON, group.clone());
            let reading = self.configuration.check(op, &with).await?;
            user_group::check_range(&group, &known, &reading)?;
            if remove {
                // Kilo lays down the template's values for what it detaches.
                let below = self.configuration.check(op, &after).await?;
                group = user_group::without(group, &known, &reading, &below, &after.base);
            }
            self.try_out(op, &group, &known, &reading).await?;
            if group.options().next().is_some() {
                after.set_change(Group::User, COMMON, group);
            }
        }
        let change = self.prepare(op, before, after).await?;
        let of = |layers: &Layers<OptionFile>| change.options(layers.change(Group::User, COMMON));
        let dropped = &of(&change.before) - &of(&change.after);
        let waiting = self.carry_out(op, &change, &dropped).await?;
        self.note(op, dropped, &waiting).await
    }

    async fn apply(&self, op: &Op, overrides: &Overrides) -> Result<()> {
        if overrides.is_empty() {
            return Ok(());
        }
        let targets = variables::targets(overrides)?;
        let mut session = self.client.session(op).await?;
        let settled = self.set_all(op, &mut session, &targets).await;
        session.close().await;
        let waiting = settled?.waiting;
        self.note(op, targets.into_iter().map(|(name, _)| name), &waiting).await
    }
}

impl Groups {
    async fn set_all(&self, op: &Op, session: &mut Session<'_>, targets: &[(String, Target)]) -> Result<Settled> {
        let settled = variables::settle(op, session, targets, &[variables::READ_ONLY]).await?;
        if let Err(error) = self.named(op, &settled.waiting).await {
            variables::put_back(op, session, &settled.old).await;
            return Err(error);
        }
        Ok(settled)
    }

    /// A variable that waits for a restart must be in a file, or it would wait for ever.
    async fn named(&self, op: &Op, waiting: &[String]) -> Result<()> {
        if waiting.is_empty() {
            return Ok(());
        }
        let known = self.configuration.program.known_options(op).await?;
        let layers = self.configuration.read()?;
        let group = layers.change(Group::User, COMMON).cloned().unwrap_or_else(|| OptionFile::parse(""));
        let written: BTreeSet<String> = group.server_options().map(|(name, _)| known.canonical(&name).unwrap_or(name)).collect();
        match waiting.iter().find(|name| !written.contains(known.canonical(name).as_ref().unwrap_or(name))) {
            Some(name) => Err(Error::bad_request(format!(
                "the server takes '{name}' at its start only, and the instance's configuration group does not have it: put it there, and restart the database"
            ))),
            None => Ok(()),
        }
    }
}
