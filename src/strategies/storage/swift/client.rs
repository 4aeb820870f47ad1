//! One account of Swift, and requests to it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use super::auth::{ADVICE, Auth, PAUSE, Refused};
use super::body::{self, Upload};
use super::refusal;
use crate::error::Result;
use crate::op::Op;
use crate::strategies::storage::quoting::quote;
use crate::strategies::storage::{ObjectName, SegmentBody};

/// What Swift does by itself before it answers (copying a segment, checking a thousand of them) may take so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(3600);
/// Largest answer that is kept in memory: a manifest or a page of a listing.
const LARGEST_ANSWER: usize = 64 << 20;

/// An account. Holds a token, which its `Debug` does not show.
pub(super) struct Client {
    pub(super) http: reqwest::Client,
    pub(super) auth: Auth,
    /// Address of the account, without a slash at its end.
    pub(super) url: String,
    /// A request in which nothing moves for so long has failed.
    pub(super) idle: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.url).field("auth", &self.auth).finish_non_exhaustive()
    }
}

/// A request without a stream.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// What is being done, for errors.
    pub(super) action: &'a str,
    pub(super) method: Method,
    /// Where, in full.
    pub(super) url: String,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// How long Swift may take before it answers.
    pub(super) patience: Duration,
}

impl<'a> Call<'a> {
    pub(super) fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    pub(super) fn query(mut self, query: &'a [(&'a str, &'a str)]) -> Self {
        self.query = query;
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

impl Client {
    /// A request about an object.
    pub(super) fn object<'a>(&self, action: &'a str, method: Method, name: &ObjectName) -> Call<'a> {
        self.call(action, method, format!("{}/{}/{}", self.url, quote(&name.container), quote(&name.object)))
    }

    /// A request about a container.
    pub(super) fn container<'a>(&self, action: &'a str, method: Method, container: &str) -> Call<'a> {
        self.call(action, method, format!("{}/{}", self.url, quote(container)))
    }

    pub(super) fn call<'a>(&self, action: &'a str, method: Method, url: String) -> Call<'a> {
        Call { action, method, url, query: &[], headers: HeaderMap::new(), body: Bytes::new(), patience: self.idle }
    }

    /// Sends it; a token that is refused is renewed once, where it can be, and else tried again if it was good before.
    ///
    /// # Errors
    /// Any answer but success.
    pub(super) async fn send(&self, op: &Op, call: &Call<'_>) -> Result<Response> {
        let (response, token) = self.exchange(op, call).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal::refused(call.action, response, &token).await) }
    }

    /// Sends it; `None` when there is no such thing.
    ///
    /// # Errors
    /// Any other answer but success.
    pub(super) async fn find(&self, op: &Op, call: &Call<'_>) -> Result<Option<Response>> {
        let (response, token) = self.exchange(op, call).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(response)),
            _ => Err(refusal::refused(call.action, response, &token).await),
        }
    }

    async fn exchange(&self, op: &Op, call: &Call<'_>) -> Result<(Response, SecretString)> {
        let mut renewed = false;
        loop {
            let (response, token) = self.attempt(op, call).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                self.auth.accepted();
                return Ok((response, token));
            }
            match self.auth.refused(&token).await {
                Refused::Renewed if renewed => return Ok((response, token)),
                Refused::Renewed => renewed = true,
                Refused::Doubted => op.until_cancelled(call.action, tokio::time::sleep(PAUSE)).await?,
                Refused::Ended => return Err(self.unauthorized(call.action, response, &token).await),
            }
        }
    }

    async fn attempt(&self, op: &Op, call: &Call<'_>) -> Result<(Response, SecretString)> {
        let token = self.auth.token(op).await?;
        let mut request = self.http.request(call.method.clone(), &call.url).query(call.query).headers(call.headers.clone());
        request = request.header("x-auth-token", sensitive(&token, call.action)?);
        if call.method == Method::PUT || !call.body.is_empty() {
            request = request.body(call.body.clone()).header(CONTENT_LENGTH, call.body.len());
        }
        let answer = op.until_cancelled(call.action, tokio::time::timeout(call.patience, request.send())).await?;
        let response = answer.map_err(|_| refusal::idle(call.action, call.patience))?;
        Ok((response.map_err(|error| refusal::broken(call.action, error))?, token))
    }

    /// Sends a stream: one attempt, since it cannot be read twice.
    ///
    /// # Errors
    /// Any answer but success. A refused token is transient where the next attempt has another one, or the same one was good before.
    pub(super) async fn upload(&self, op: &Op, action: &str, name: &ObjectName, body: SegmentBody, headers: HeaderMap) -> Result<Response> {
        let token = self.auth.token(op).await?;
        let (upload, turn) = Upload::new(body.bytes);
        let announced = body.size;
        let call = self.object(action, Method::PUT, name);
        let mut request = self.http.put(&call.url).headers(headers).header("x-auth-token", sensitive(&token, action)?);
        if let Some(size) = announced {
            request = request.header(CONTENT_LENGTH, size);
        }
        let sending = request.body(reqwest::Body::wrap_stream(upload)).send();
        let watched = async {
            tokio::select! {
                // Cancel-safe: an upload that is dropped is broken off, and Swift keeps nothing of it.
                answer = sending => answer.map_err(|error| turn.take_failure().unwrap_or_else(|| refusal::broken(action, error))),
                () = turn.standstill(self.idle) => Err(refusal::idle(action, self.idle)),
            }
        };
        let response = op.until_cancelled(action, watched).await??;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            let transient = |words: &str| refusal::failed(action, words, true);
            return Err(match self.auth.refused(&token).await {
                Refused::Renewed => transient("the token was not valid any more (401); the next attempt has another one"),
                Refused::Doubted => transient("the token was refused (401), but was good before: Keystone may be busy"),
                Refused::Ended => self.unauthorized(action, response, &token).await,
            });
        }
        self.auth.accepted();
        if !status.is_success() {
            return Err(refusal::refused(action, response, &token).await);
        }
        // The stream may have failed after Swift had all it was told to expect.
        if let Some(error) = turn.take_failure() {
            return Err(error);
        }
        match announced {
            Some(size) if size != turn.sent() => {
                Err(refusal::failed(action, format!("{} bytes were sent, and not {size}", turn.sent()), false))
            }
            _ => Ok(response),
        }
    }

    /// The answer's JSON.
    ///
    /// # Errors
    /// It breaks off, is too large or not JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, op: &Op, action: &str, response: Response) -> Result<T> {
        let bytes = self.whole(op, action, response, LARGEST_ANSWER).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| refusal::failed(action, format!("the answer is not what Swift says: {error}"), false))
    }

    /// The answer's body.
    ///
    /// # Errors
    /// It breaks off, or is longer than `at_most` bytes.
    pub(super) async fn whole(&self, op: &Op, action: &str, mut response: Response, at_most: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = body::next_chunk(op, action, &mut response, self.idle).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > at_most {
                return Err(refusal::failed(action, format!("the answer is longer than {at_most} bytes"), false));
            }
        }
        Ok(bytes)
    }

    async fn unauthorized(&self, action: &str, response: Response, token: &SecretString) -> crate::error::Error {
        match refusal::refused(action, response, token).await {
            crate::error::Error::Storage { action, reason, .. } => refusal::failed(&action, format!("{reason}; {ADVICE}"), false),
            other => other,
        }
    }
}

fn sensitive(token: &SecretString, action: &str) -> Result<HeaderValue> {
    let wrong = |_| refusal::failed(action, "the token has characters no token has", false);
    let mut value = HeaderValue::from_str(token.expose_secret()).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}
