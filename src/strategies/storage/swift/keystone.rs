//! Tokens of Keystone, version 3.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{body, refusal, timestamp};
use crate::config::Identity;
use crate::error::Result;
use crate::op::Op;

/// A token is renewed so long before its end, or in the last fifth of its life if that is shorter.
const MARGIN: Duration = Duration::from_secs(300);
/// Assumed when an answer has no times.
const SHORT_LIFE: Duration = Duration::from_secs(300);
/// Largest answer that is read: catalogs of large clouds have some hundred kilobytes.
const LARGEST_ANSWER: usize = 16 << 20;
const ACTION: &str = "get a token of Keystone";

/// How to get a token.
#[derive(Debug)]
pub(super) enum Method {
    /// With an account of the configuration; again and again.
    Account(Identity),
    /// With somebody's token, for a project; ends when that ends.
    Rescope {
        /// That token.
        token: SecretString,
        /// Id of the project.
        project: String,
    },
}

/// Keystone, and the token it gave last.
pub(super) struct Keystone {
    http: reqwest::Client,
    url: String,
    method: Method,
    idle: Duration,
    /// Locked while a token is being had: whoever needs one meanwhile waits for that one.
    current: Mutex<Option<Issued>>,
}

struct Issued {
    token: SecretString,
    catalog: Value,
    renew_at: Instant,
    ends_at: Instant,
}

impl fmt::Debug for Keystone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystone").field("url", &self.url).field("method", &self.method).finish_non_exhaustive()
    }
}

impl Keystone {
    /// `auth_url` with or without its version.
    pub(super) fn new(http: reqwest::Client, auth_url: &str, method: Method, idle: Duration) -> Self {
        Keystone { http, url: tokens_url(auth_url), method, idle, current: Mutex::new(None) }
    }

    /// A token with some life left.
    pub(super) async fn token(&self, op: &Op) -> Result<SecretString> {
        self.with_current(op, |issued| issued.token.clone()).await
    }

    /// The catalog that came with it.
    pub(super) async fn catalog(&self, op: &Op) -> Result<Value> {
        self.with_current(op, |issued| issued.catalog.clone()).await
    }

    /// Forgets a token that was refused, unless there is another one already. True when there will be another one.
    pub(super) async fn forget(&self, token: &SecretString) -> bool {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|issued| issued.token.expose_secret() == token.expose_secret()) {
            *current = None;
        }
        matches!(self.method, Method::Account(_))
    }

    async fn with_current<T>(&self, op: &Op, take: impl FnOnce(&Issued) -> T) -> Result<T> {
        let mut current = op.until_cancelled(ACTION, self.current.lock()).await?;
        if let Some(issued) = current.as_ref().filter(|issued| Instant::now() < issued.renew_at) {
            return Ok(take(issued));
        }
        match (self.issue(op).await, current.as_ref()) {
            (Ok(issued), _) => Ok(take(current.insert(issued))),
            // The one there is still holds: Keystone has until then to come back.
            (Err(error), Some(issued)) if error.is_transient() && Instant::now() < issued.ends_at => {
                tracing::warn!(%error, "the token is not renewed yet");
                Ok(take(issued))
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn issue(&self, op: &Op) -> Result<Issued> {
        let asked = Instant::now();
        let request = self.http.post(&self.url).json(&request_body(&self.method));
        let sent = op.until_cancelled(ACTION, tokio::time::timeout(self.idle, request.send())).await?;
        let mut response = sent.map_err(|_| refusal::idle(ACTION, self.idle))?.map_err(|error| refusal::broken(ACTION, error))?;
        let status = response.status();
        if status != StatusCode::CREATED {
            let error = refusal::refused(ACTION, response, &SecretString::default()).await;
            return Err(if status == StatusCode::UNAUTHORIZED { refusal::failed(ACTION, self.unauthorized(), false) } else { error });
        }
        let token = subject_token(response.headers());
        let mut bytes = Vec::new();
        while let Some(chunk) = body::next_chunk(op, ACTION, &mut response, self.idle).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LARGEST_ANSWER {
                return Err(refusal::failed(ACTION, "the answer does not end", false));
            }
        }
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let (Some(token), Some(body)) = (token, answer.get("token")) else {
            return Err(refusal::failed(ACTION, format!("{} does not answer as Keystone version 3 does", self.url), false));
        };
        let life = lifetime(body);
        let renew_at = asked + life.saturating_sub(MARGIN.min(life / 5));
        Ok(Issued { token, catalog: body.get("catalog").cloned().unwrap_or_default(), renew_at, ends_at: asked + life })
    }

    fn unauthorized(&self) -> String {
        match &self.method {
            Method::Account(_) => {
                format!("Keystone ({}) refuses the account of [backup_credentials] (401): check it, and its role in the project", self.url)
            }
            Method::Rescope { .. } => format!("Keystone ({}) refuses the token of the request (401): {}", self.url, super::auth::ADVICE),
        }
    }
}

/// `<auth_url>/v3/auth/tokens`, whether or not the address has a version.
fn tokens_url(auth_url: &str) -> String {
    let base = auth_url.trim_end_matches('/');
    let base = ["/v3", "/v2.0"].iter().find_map(|version| base.strip_suffix(version)).unwrap_or(base);
    format!("{base}/v3/auth/tokens")
}

fn request_body(method: &Method) -> Value {
    match method {
        Method::Account(Identity::Password { user, password, user_domain, project, project_domain }) => json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": user, "domain": {"name": user_domain}, "password": password.expose_secret()}}},
            "scope": {"project": {"name": project, "domain": {"name": project_domain}}}}}),
        Method::Account(Identity::ApplicationCredential { id, secret }) => json!({"auth": {
            "identity": {"methods": ["application_credential"], "application_credential": {"id": id, "secret": secret.expose_secret()}}}}),
        Method::Rescope { token, project } => json!({"auth": {
            "identity": {"methods": ["token"], "token": {"id": token.expose_secret()}},
            "scope": {"project": {"id": project}}}}),
    }
}

fn subject_token(headers: &HeaderMap) -> Option<SecretString> {
    headers.get("x-subject-token").map(HeaderValue::to_str)?.ok().map(SecretString::from)
}

/// How long a token lives, by Keystone's own clock.
fn lifetime(token: &Value) -> Duration {
    let time = |key: &str| token.get(key).and_then(Value::as_str).and_then(timestamp::seconds);
    let life = time("expires_at").zip(time("issued_at")).and_then(|(end, begin)| u64::try_from(end - begin).ok());
    life.map_or(SHORT_LIFE, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_version() {
        for url in ["http://k:5000", "http://k:5000/", "http://k:5000/v3", "http://k:5000/v3/", "http://k:5000/v2.0"] {
            assert_eq!(tokens_url(url), "http://k:5000/v3/auth/tokens", "{url}");
        }
        assert_eq!(tokens_url("https://k/identity"), "https://k/identity/v3/auth/tokens");
    }

    #[test]
    fn lifetimes() {
        let token = json!({"issued_at": "2026-11-22T23:10:21.000000Z", "expires_at": "2026-11-23T00:10:21.000000Z"});
        assert_eq!(lifetime(&token), Duration::from_secs(3600));
        assert_eq!(lifetime(&json!({})), SHORT_LIFE);
    }

    #[test]
    fn nothing_shows_a_secret() {
        let method = Method::Rescope { token: SecretString::from("pl4nted"), project: "p".into() };
        let keystone = Keystone::new(reqwest::Client::new(), "http://k", method, SHORT_LIFE);
        assert!(!format!("{keystone:?} {}", keystone.unauthorized()).contains("pl4nted"));
    }
}
