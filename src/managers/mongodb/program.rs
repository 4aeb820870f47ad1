//! The server's program: which one it is, and what it makes of a configuration.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::system::mongodb::Flavor;
use crate::system::service::ServiceControl;

/// The server's program on this guest, or in its container.
#[derive(Debug)]
pub(super) struct ServerProgram {
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) owner: Owner,
    pub(super) candidates: Vec<Utf8PathBuf>,
}

/// What a server says against a configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// It does not know this option.
    Unknown(String),
    /// It refuses a value, or cannot read a line: its words.
    Refused(String),
}

impl ServerProgram {
    /// Path and version. Looked for each time: another one may be installed now.
    async fn find(&self, op: &Op) -> Result<(Utf8PathBuf, Flavor)> {
        let in_container = self.service.brings_its_own_programs();
        for path in self.candidates.iter().filter(|path| in_container || path.is_file()) {
            let output = self.service.exec(op, CommandSpec::new(path.as_str()).arg("--version")).await;
            if let Some(flavor) = output.ok().and_then(|output| Flavor::of_program(&output.stdout)) {
                return Ok((path.clone(), flavor));
            }
        }
        let names: Vec<&str> = self.candidates.iter().map(|path| path.as_str()).collect();
        Err(Error::guest(format!("no database server is installed: none of {} runs", names.join(", "))))
    }

    /// What is installed.
    pub(super) async fn flavor(&self, op: &Op) -> Result<Flavor> {
        self.find(op).await.map(|(_, flavor)| flavor)
    }

    /// The program, run as the server's account.
    pub(super) async fn command(&self, op: &Op) -> Result<CommandSpec> {
        let (path, flavor) = self.find(op).await?;
        flavor.check_supported()?;
        Ok(CommandSpec::new(path.as_str()).as_user(self.owner.name()))
    }

    /// Lets the server read a configuration without starting; `None` when it takes it.
    ///
    /// # Errors
    /// The program cannot be run.
    pub(super) async fn objection(&self, op: &Op, file: &Utf8Path) -> Result<Option<Objection>> {
        // It objects to options on its standard error, and to parameters as it logs, on its standard output.
        let command = self.command(op).await?.args(["--outputConfig", "--config", file.as_str()]).accept(&[1, 2]);
        let output = self.service.exec(op, command).await.action("have the server read the configuration")?;
        if output.code == 0 {
            return Ok(None);
        }
        Ok(Some(objection(&format!("{}\n{}", output.stderr, logged_error(&output.stdout).unwrap_or_default()))))
    }
}

/// The reason in a fatal line of its log, which is JSON.
fn logged_error(stdout: &str) -> Option<String> {
    let reason = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok().filter(|line: &serde_json::Value| line["s"] == "F")?;
        line["attr"]["error"]["errmsg"].as_str().map(str::to_owned)
    };
    stdout.lines().find_map(reason)
}

fn objection(said: &str) -> Objection {
    let told = |line: &&str| !line.trim().is_empty() && !line.starts_with("try '");
    let words: Vec<&str> = said.lines().filter(told).map(str::trim).collect();
    let unknown = words.iter().find_map(|line| line.strip_prefix("Unrecognized option: "));
    match unknown {
        Some(name) => Objection::Unknown(name.to_owned()),
        None => Objection::Refused(words.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objections_are_told_apart() {
        let unknown = objection("Unrecognized option: storage.mmapv1.smallFiles\ntry 'mongod --help' for more information\n");
        assert_eq!(unknown, Objection::Unknown("storage.mmapv1.smallFiles".into()));
        let log = r#"{"s":"F","c":"CONTROL","msg":"Error","attr":{"error":{"code":2,"errmsg":"Unknown --setParameter 'nosuch'"}}}"#;
        assert_eq!(logged_error(&format!("x\n{log}\n")).as_deref(), Some("Unknown --setParameter 'nosuch'"));
        let refused = objection("Error parsing option \"net.port\" as int: Failed to parse number\n");
        assert_eq!(refused, Objection::Refused("Error parsing option \"net.port\" as int: Failed to parse number".into()));
    }
}
