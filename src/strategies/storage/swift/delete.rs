//! Removing a backup: whole, or what a crash has left of it, and nothing of any other.

use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::client::{Client, PATIENCE};
use super::large::{self, Kind};
use super::refusal;
use crate::error::Result;
use crate::op::Op;
use crate::strategies::storage::{ObjectName, pieces};

/// What Swift says of a request that deletes many objects.
#[derive(Debug, Deserialize)]
struct Outcome {
    #[serde(rename = "Response Status")]
    status: String,
    #[serde(rename = "Errors", default)]
    errors: Vec<(String, String)>,
}

impl Client {
    /// Removes the object and all segments it refers to, then segments without an object. May be repeated.
    pub(super) async fn delete(&self, op: &Op, name: &ObjectName) -> Result<()> {
        let action = format!("delete the backup {name}");
        let head = self.find(op, &self.object(&action, Method::HEAD, name).patience(PATIENCE)).await?;
        match head.map(|head| large::kind(head.headers())) {
            None => {}
            Some(Kind::Single) => self.remove(op, name).await.map(drop)?,
            Some(Kind::Static) => self.delete_static(op, &action, name).await?,
            Some(Kind::Dynamic { container, prefix }) => {
                self.delete_dynamic(op, &action, name, &container, &prefix).await?;
                self.remove(op, name).await?;
            }
        }
        self.delete_pieces(op, name).await
    }

    /// Swift removes what the manifest refers to, and the manifest last.
    async fn delete_static(&self, op: &Op, action: &str, name: &ObjectName) -> Result<()> {
        let json = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        let call = self.object(action, Method::DELETE, name).headers(json).patience(PATIENCE);
        let Some(response) = self.find(op, &call.query(&[("multipart-manifest", "delete")])).await? else { return Ok(()) };
        let outcome: Outcome = self.json(op, action, response).await?;
        match (outcome.errors.first(), outcome.status.starts_with("200")) {
            (None, true) => Ok(()),
            // The manifest itself may be what is gone: the pieces are looked for next.
            (None, false) if outcome.status.starts_with("404") => Ok(()),
            (Some((object, status)), _) => Err(refusal::failed(
                action,
                format!("'{object}' is still there: {status}"),
                status.starts_with('5') || status.starts_with("401"),
            )),
            (None, false) => Err(refusal::failed(action, format!("the answer is {}", outcome.status), true)),
        }
    }

    /// Segments of a prefix that is not our own, such as another client's: it must belong to this object alone, or who knows what it hits.
    async fn delete_dynamic(&self, op: &Op, action: &str, name: &ObjectName, container: &str, prefix: &str) -> Result<()> {
        if container == name.container && prefix == name.segment_prefix() {
            return Ok(());
        }
        if !prefix.ends_with('/') {
            let reason = format!(
                "its manifest means every object whose name begins with '{container}/{prefix}', which may be another's: delete it by hand"
            );
            return Err(refusal::failed(action, reason, false));
        }
        for listed in self.list(op, container, prefix).await? {
            self.remove(op, &ObjectName::new(container, listed.name)).await?;
        }
        Ok(())
    }

    /// Every object that has the name of a piece. A listing may be late: after the last segment that is listed, later ones are tried by name.
    async fn delete_pieces(&self, op: &Op, name: &ObjectName) -> Result<()> {
        let mut next = 0;
        for listed in self.list(op, &name.container, &name.segment_prefix()).await? {
            if !pieces::is_piece(name, &listed.name) {
                continue;
            }
            let number = listed.name.strip_prefix(&name.segment_prefix()).and_then(|digits| digits.parse::<usize>().ok());
            next = number.map_or(next, |number| next.max(number + 1));
            self.remove(op, &ObjectName::new(&name.container, listed.name)).await?;
        }
        while self.remove(op, &name.segment(next)).await? {
            next += 1;
        }
        Ok(())
    }

    /// True when there was something.
    pub(super) async fn remove(&self, op: &Op, name: &ObjectName) -> Result<bool> {
        let action = format!("delete {name}");
        Ok(self.find(op, &self.object(&action, Method::DELETE, name)).await?.is_some())
    }
}
