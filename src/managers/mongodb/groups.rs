//! Configuration groups ([`ConfigGroups`]).

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use super::configuration::{Conf, options, refuse_own};
use super::flat;
use super::running::Running;
use crate::codec::Yaml;
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
pub(super) fn parse(overrides: &Overrides) -> Result<Yaml> {
    let document = match overrides {
        Overrides::Text(text) => {
            let document = flat::parse(text)?;
            if options(Some(&document)).is_empty() {
                return Err(Error::bad_request("the configuration group is no text that a server reads: it has no options"));
            }
            document
        }
        Overrides::Values(values) => flat::of_values(values)?,
    };
    options(Some(&document)).keys().try_for_each(|name| refuse_own(name))?;
    Ok(document)
}

fn group(layers: &Conf) -> BTreeMap<String, Value> {
    options(layers.change(Group::User, COMMON))
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
        configuration.check(op, &after).await?;
        configuration.write(op, &before, &after).await?;
        let mut dropped = group(&before);
        dropped.retain(|name, _| !group(&after).contains_key(name));
        if dropped.is_empty() || !self.running.is_up(op).await? {
            return Ok(());
        }
        // They go back to what the base says; the server's own defaults it knows at its start only.
        let merged = options(Some(&after.merged()?));
        let (known, unknown): (Vec<String>, Vec<String>) = dropped.into_keys().partition(|name| merged.contains_key(name));
        let wanted = known.iter().filter_map(|name| Some((name.clone(), merged.get(name)?.clone()))).collect();
        let waiting: Vec<String> = self.running.set(op, &wanted).await?.into_iter().chain(unknown.iter().cloned()).collect();
        let changed: Vec<String> = known.into_iter().chain(unknown).collect();
        self.running.note(op, &changed, &waiting).await
    }

    /// The files have the values already: a controller sends a group to [`Self::update`] first.
    async fn apply(&self, op: &Op, overrides: &Overrides) -> Result<()> {
        if overrides.is_empty() {
            return Ok(());
        }
        let wanted = options(Some(&parse(overrides)?));
        let written = group(&self.running.configuration.read()?);
        // One that is in no file would wait for ever, or be forgotten at the next start.
        if let Some(name) = wanted.keys().find(|name| !written.contains_key(*name)) {
            return Err(Error::bad_request(format!(
                "the instance's configuration group does not have '{name}': put it there before it is applied"
            )));
        }
        let waiting = self.running.set(op, &wanted).await?;
        let changed: Vec<String> = wanted.into_keys().collect();
        self.running.note(op, &changed, &waiting).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Document;
    use serde_json::json;

    fn values(value: Value) -> Overrides {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn nothing_but_options_gets_into_a_group() {
        for bad in [json!({"net.port": 1}), json!({"a..b": 1}), json!({"": 1}), json!({"security": {"authorization": "disabled"}})] {
            assert!(parse(&values(bad.clone())).is_err(), "{bad}");
        }
        assert!(parse(&Overrides::Text("nonsense\n".into())).is_err() && parse(&Overrides::Text("auth = false\n".into())).is_err());
        let document = parse(&values(json!({"systemLog.verbosity": 1, "net.maxIncomingConnections": 7}))).unwrap();
        assert_eq!(options(Some(&document)).len(), 2);
        assert_eq!(parse(&Overrides::Text("maxConns = 9\n".into())).unwrap().get(&["net", "maxIncomingConnections"]), Some(json!(9)));
    }
}
