//! Containers: making one, listing what is in it.

use reqwest::Method;
use serde::Deserialize;

use super::client::Client;
use super::refusal;
use crate::error::Result;
use crate::op::Op;
use crate::strategies::storage::quoting::unquote;

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Listed {
    /// Name of the object.
    pub(super) name: String,
    /// Its size, in bytes.
    pub(super) bytes: u64,
    /// Its entity tag.
    pub(super) hash: String,
}

/// A line of a listing that may be no object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Object(Listed),
    Other(serde::de::IgnoredAny),
}

impl Client {
    /// Makes the container unless it is there: asked first, since a caller may be allowed to write into one and not to make any.
    pub(super) async fn ensure_container(&self, op: &Op, container: &str) -> Result<()> {
        if container.is_empty() || container.contains('/') {
            return Err(refusal::failed(
                "use the container of the backup",
                format!("'{container}' cannot be the name of a container"),
                false,
            ));
        }
        let action = format!("create the container '{container}'");
        let made = self.send(op, &self.container(&action, Method::PUT, container)).await;
        let Err(error) = made else { return Ok(()) };
        let action = format!("look for the container '{container}'");
        match self.find(op, &self.container(&action, Method::HEAD, container)).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(error),
        }
    }

    /// All objects of a container whose names begin with `prefix`, in order of their names, page by page. A container that is not there has none.
    pub(super) async fn list(&self, op: &Op, container: &str, prefix: &str) -> Result<Vec<Listed>> {
        let action = format!("list '{prefix}' in the container '{container}'");
        let mut found: Vec<Listed> = Vec::new();
        let mut marker = String::new();
        loop {
            let query = [("format", "json"), ("prefix", prefix), ("marker", marker.as_str())];
            let call = self.container(&action, Method::GET, container).query(&query);
            let Some(response) = self.find(op, &call).await? else { return Ok(found) };
            if response.status() == reqwest::StatusCode::NO_CONTENT {
                return Ok(found);
            }
            let page: Vec<Line> = self.json(op, &action, response).await?;
            let before = found.len();
            // What a prefix does not stand in front of has no business here, whoever answers.
            let objects = page.into_iter().filter_map(|line| if let Line::Object(listed) = line { Some(listed) } else { None });
            found.extend(objects.filter(|listed| listed.name.starts_with(prefix) && listed.name > marker));
            match found.last() {
                Some(last) if found.len() > before => marker = last.name.clone(),
                _ => return Ok(found),
            }
        }
    }

    /// What `/info` says of the longest manifest; Swift's own default when it does not say.
    pub(super) async fn manifest_limit(&self, op: &Op) -> Result<usize> {
        const DEFAULT: usize = 1000;
        #[derive(Default, Deserialize)]
        struct Info {
            slo: Option<Slo>,
        }
        #[derive(Deserialize)]
        struct Slo {
            max_manifest_segments: Option<usize>,
        }
        let action = "ask Swift for its limits";
        let Some((base, _)) = self.url.split_once("/v1") else { return Ok(DEFAULT) };
        let known: Result<Info> = async {
            let response = self.send(op, &self.call(action, Method::GET, format!("{base}/info"))).await?;
            self.json(op, action, response).await
        }
        .await;
        match known {
            Ok(info) => Ok(info.slo.and_then(|slo| slo.max_manifest_segments).filter(|limit| *limit > 1).unwrap_or(DEFAULT)),
            Err(cancelled @ crate::error::Error::Cancelled { .. }) => Err(cancelled),
            // Operators may hide it.
            Err(error) => {
                tracing::debug!(%error, "Swift does not tell its limits");
                Ok(DEFAULT)
            }
        }
    }
}

/// Container and object of a path as Swift has it: `/container/object` or `container/object`, quoted or not.
pub(super) fn split_path(path: &str, quoted: bool) -> Option<(String, String)> {
    let text = if quoted { unquote(path.as_bytes()) } else { path.to_owned() };
    let (container, object) = text.strip_prefix('/').unwrap_or(&text).split_once('/')?;
    (!container.is_empty() && !object.is_empty()).then(|| (container.to_owned(), object.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let pair = |container: &str, object: &str| Some((container.to_owned(), object.to_owned()));
        assert_eq!(split_path("/c/o/p", false), pair("c", "o/p"));
        assert_eq!(split_path("c/b%20_", true), pair("c", "b _"));
        assert_eq!(split_path("/c/", false), None);
        assert_eq!(split_path("c", false), None);
    }
}
