//! Service control through the guest's systemd, by `systemctl`.
//!
//! Units are asked with `systemctl show` (stable, made for programs), never with `status`. The unit is looked up anew each time:
//! a package may bring it later, and Debian's aliases (`mysql.service` for `mariadb.service`) vanish when it is disabled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::control::{ServiceControl, UnitNames, UnitState, stays_up};
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::{CommandOutput, CommandRunner, CommandSpec};
use crate::system::running::RunningCommand;

const PROPERTIES: &str = "Id,LoadState,ActiveState,SubState,Result,MainPID,ControlGroup,Type,TriggeredBy";
/// Lines of the journal in the error of a failed start.
const JOURNAL_LINES: &str = "20";

/// The first of some candidate units that exists.
#[derive(Debug)]
pub struct Systemd {
    own: Option<String>,
    candidates: UnitNames,
    commands: Arc<dyn CommandRunner>,
}

/// What `systemctl show` says of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unit {
    /// Canonical name: what an alias stands for.
    id: String,
    load: String,
    active: String,
    sub: String,
    result: String,
    main_pid: Option<i32>,
    control_group: String,
    kind: String,
    /// Units that start it on their own account. MariaDB's package brings a socket, which the first boot of an image may enable:
    /// then whoever connects, a probe of ours included, starts the server again that was stopped on purpose.
    triggers: Vec<String>,
}

impl Unit {
    /// One block of `systemctl show`.
    fn parse(block: &str) -> Self {
        let mut values: HashMap<&str, &str> = block.lines().filter_map(|line| line.split_once('=')).collect();
        let mut take = |name| values.remove(name).unwrap_or_default().to_owned();
        Unit {
            id: take("Id"),
            load: take("LoadState"),
            active: take("ActiveState"),
            sub: take("SubState"),
            result: take("Result"),
            main_pid: take("MainPID").parse().ok().filter(|pid| *pid > 0),
            control_group: take("ControlGroup"),
            kind: take("Type"),
            triggers: take("TriggeredBy").split_whitespace().map(str::to_owned).collect(),
        }
    }

    fn exists(&self) -> bool {
        self.load != "not-found" && !self.load.is_empty()
    }

    fn state(&self) -> UnitState {
        match self.active.as_str() {
            // Between two attempts of `Restart=` there is no process.
            "activating" if self.sub.starts_with("auto-restart") => UnitState::Failed,
            "active" | "reloading" | "activating" | "deactivating" | "refreshing" => UnitState::Running { pid: self.main_pid },
            "failed" => UnitState::Failed,
            _ => UnitState::Stopped,
        }
    }

    /// True when `systemctl start` returns only after the service said that it is ready.
    fn says_when_ready(&self) -> bool {
        matches!(self.kind.as_str(), "notify" | "notify-reload" | "dbus" | "forking")
    }
}

impl Systemd {
    /// `own` (the guest's `service_name`) goes before the candidates; `.service` is added where it is missing.
    pub fn new(own: Option<String>, candidates: UnitNames, commands: Arc<dyn CommandRunner>) -> Self {
        Systemd { own, candidates, commands }
    }

    fn names(&self) -> Vec<String> {
        let names = self.own.iter().cloned().chain(self.candidates.list());
        names.map(|name| if name.ends_with(".service") { name } else { format!("{name}.service") }).collect()
    }

    /// The first candidate that exists.
    async fn find(&self, op: &Op) -> Result<Option<Unit>> {
        let show = CommandSpec::new("systemctl").args(["show", "--no-pager", "-p", PROPERTIES, "--"]).args(self.names());
        let shown = self.commands.run(op, show).await.action("ask systemd for the database's unit")?;
        Ok(shown.stdout.split("\n\n").map(Unit::parse).find(Unit::exists))
    }

    async fn unit(&self, op: &Op) -> Result<Unit> {
        self.find(op).await?.ok_or_else(|| {
            Error::guest(format!(
                "there is no {} on this guest: install the datastore's package, or set service_name to the unit's name",
                self.names().join(" or ")
            ))
        })
    }

    /// The unit's last words, or nothing when the journal cannot be read.
    async fn journal(&self, op: &Op, unit: &str) -> String {
        let journal = CommandSpec::new("journalctl").args(["-u", unit, "-n", JOURNAL_LINES, "--no-pager", "-o", "cat", "-q"]);
        match self.commands.run(op, journal).await {
            Ok(output) => output.stdout.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; "),
            Err(error) => {
                tracing::debug!(%error, unit, "the journal cannot be read");
                String::new()
            }
        }
    }

    async fn start_failed(&self, op: &Op, unit: &Unit, reason: &str) -> Error {
        let journal = self.journal(op, &unit.id).await;
        let said = if journal.is_empty() { format!("see journalctl -u {}", unit.id) } else { journal };
        Error::guest(format!("{} did not start ({reason}): {said}", unit.id))
    }
}

#[async_trait]
impl ServiceControl for Systemd {
    async fn start(&self, op: &Op, wait: Duration) -> Result<()> {
        let unit = self.unit(op).await?;
        if matches!(unit.state(), UnitState::Running { .. }) && unit.active == "active" {
            return Ok(());
        }
        // Without this, a unit that was started often of late is refused (StartLimitBurst): that limit is meant for restarts
        // nobody asked for. A unit that never ran is not loaded, which is not an error.
        let forget = CommandSpec::new("systemctl").args(["reset-failed", "--", &unit.id]).accept(&[1]);
        self.commands.run(op, forget).await?;
        let start = CommandSpec::new("systemctl").args(["start", "--", &unit.id]).timeout(wait);
        match self.commands.run(op, start).await {
            Ok(_) if unit.says_when_ready() => Ok(()),
            Ok(_) if stays_up(op, self).await? => Ok(()),
            Ok(_) => {
                let now = self.unit(op).await?;
                Err(self.start_failed(op, &now, &format!("it ended at once, result {}", now.result)).await)
            }
            Err(Error::Command { status, .. }) => {
                let now = self.unit(op).await?;
                Err(self.start_failed(op, &now, &format!("systemctl {status}, result {}", now.result)).await)
            }
            Err(Error::Timeout { after, .. }) => {
                let detail = self.journal(op, &unit.id).await;
                Err(Error::Timeout { action: format!("start {}", unit.id), after, detail })
            }
            Err(error) => Err(error).action(format!("start {}", unit.id)),
        }
    }

    async fn stop(&self, op: &Op, wait: Duration) -> Result<()> {
        let Some(unit) = self.find(op).await? else { return Ok(()) };
        // An inactive unit is stopped too: it may have a start job, or a restart, under way.
        let stop = CommandSpec::new("systemctl").args(["stop", "--", &unit.id]).args(&unit.triggers).timeout(wait);
        match self.commands.run(op, stop).await {
            Ok(_) => Ok(()),
            Err(Error::Timeout { after, .. }) => {
                let left = self.find(op).await?.map(|unit| format!("{} is {}, cgroup {}", unit.id, unit.sub, unit.control_group));
                Err(Error::Timeout { action: format!("stop {}", unit.id), after, detail: left.unwrap_or_default() })
            }
            Err(error) => Err(error).action(format!("stop {}", unit.id)),
        }
    }

    async fn set_enabled(&self, op: &Op, enabled: bool) -> Result<()> {
        // By its own name: systemd refuses to enable an alias. The server starts with the guest or not at all, so what would start
        // it besides is off in both cases.
        let unit = self.unit(op).await?;
        let (enable, disable): (Vec<&String>, Vec<&String>) = if enabled {
            (vec![&unit.id], unit.triggers.iter().collect())
        } else {
            (Vec::new(), unit.triggers.iter().chain([&unit.id]).collect())
        };
        for (verb, units) in [("disable", disable), ("enable", enable)] {
            if !units.is_empty() {
                let command = CommandSpec::new("systemctl").args([verb, "--"]).args(units);
                self.commands.run(op, command).await.action(format!("{verb} {}", unit.id))?;
            }
        }
        Ok(())
    }

    async fn state(&self, op: &Op) -> Result<UnitState> {
        Ok(self.find(op).await?.map_or(UnitState::Missing, |unit| unit.state()))
    }

    async fn exec(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        self.commands.run(op, command).await
    }

    async fn spawn(&self, _op: &Op, command: CommandSpec) -> Result<RunningCommand> {
        self.commands.spawn(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(active: &str, sub: &str, pid: &str) -> Unit {
        Unit::parse(&format!(
            "Type=notify\nMainPID={pid}\nResult=success\nControlGroup=/system.slice/mariadb.service\nId=mariadb.service\nLoadState=loaded\nActiveState={active}\nSubState={sub}"
        ))
    }

    #[test]
    fn states_follow_the_process_not_the_word() {
        assert_eq!(unit("active", "running", "71").state(), UnitState::Running { pid: Some(71) });
        assert_eq!(unit("activating", "start", "71").state(), UnitState::Running { pid: Some(71) });
        assert_eq!(unit("activating", "auto-restart", "0").state(), UnitState::Failed);
        assert_eq!(unit("activating", "auto-restart-queued", "0").state(), UnitState::Failed);
        assert_eq!(unit("deactivating", "stop-sigterm", "71").state(), UnitState::Running { pid: Some(71) });
        assert_eq!(unit("inactive", "dead", "0").state(), UnitState::Stopped);
        assert_eq!(unit("failed", "failed", "0").state(), UnitState::Failed);
    }

    #[test]
    fn what_starts_a_unit_besides_is_known() {
        let unit = Unit::parse("Id=mariadb.service\nLoadState=loaded\nTriggeredBy=mariadb-extra.socket mariadb.socket");
        assert_eq!(unit.triggers, ["mariadb-extra.socket", "mariadb.socket"]);
    }

    #[test]
    fn a_unit_that_is_not_there_does_not_exist() {
        assert!(!Unit::parse("Id=mysql.service\nLoadState=not-found\nActiveState=inactive").exists());
        assert!(!Unit::parse("").exists());
        assert!(Unit::parse("Id=mysql.service\nLoadState=masked\nActiveState=inactive").exists());
    }
}
