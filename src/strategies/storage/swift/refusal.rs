//! What Swift and Keystone answer when they do not do what they were asked, as [`Error`]s: which of them another attempt may mend, and what an
//! operator can do about the others.

use std::error::Error as _;
use std::time::Duration;

use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};

use super::headers;
use crate::error::Error;

/// An error's words: enough of a page to recognize it.
const WORDS: usize = 200;
/// An error's page is not waited for longer.
const PAGE_PATIENCE: Duration = Duration::from_secs(5);
/// Nor read further.
const PAGE_BYTES: usize = 4096;

/// A failure that is none of a server's answers.
pub(super) fn failed(action: &str, reason: impl Into<String>, transient: bool) -> Error {
    Error::Storage { action: action.to_owned(), reason: reason.into(), transient }
}

/// No answer: the connection could not be made, or broke.
pub(super) fn broken(action: &str, error: reqwest::Error) -> Error {
    let permanent = error.is_builder();
    // The address may have a query; the action names the object.
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !reason.contains(&text) {
            reason.push_str(": ");
            reason.push_str(&text);
        }
        source = cause.source();
    }
    if reason.contains("certificate verify failed") {
        let advice = "; install the authority's certificate on the guest, or set [backup_credentials] cafile or swift_api_insecure";
        return failed(action, reason + advice, false);
    }
    failed(action, reason, !permanent)
}

/// Nothing moved for so long.
pub(super) fn idle(action: &str, after: Duration) -> Error {
    failed(action, format!("nothing moved for {} s", after.as_secs_f32()), true)
}

/// Whether the same request may succeed later.
pub(super) fn is_transient(status: StatusCode) -> bool {
    // 409: another request for the same object was faster. 422: what arrived is not what was announced. 499: the connection broke, as Swift saw it.
    matches!(status.as_u16(), 408 | 409 | 422 | 425 | 429 | 499 | 500..=599) && status != StatusCode::NOT_IMPLEMENTED
}

fn meaning(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "redirects are not followed: correct the address of Swift",
        401 => "the token is not, or no longer, valid",
        403 => "access to this account or container is denied: the caller needs a role there (operator_roles of Swift)",
        404 => "it is not there, or its container is not",
        408 => "Swift waited too long for data",
        411 | 501 => "Swift does not take this form of request",
        413 => "too large, or the quota of the container or account is full",
        422 => "Swift received something else than was announced",
        429 => "too many requests",
        503 => "Swift is overloaded",
        507 => "Swift has no space left",
        _ => "",
    }
}

/// The answer as an error, with the first words of its page. `token` is removed should the page repeat it.
pub(super) async fn refused(action: &str, response: Response, token: &SecretString) -> Error {
    let status = response.status();
    let mut reason = format!("the answer is {status}");
    if !meaning(status).is_empty() {
        reason.push_str(": ");
        reason.push_str(meaning(status));
    }
    let transaction =
        headers::text(response.headers(), "x-trans-id").or_else(|| headers::text(response.headers(), "x-openstack-request-id"));
    let page = tokio::time::timeout(PAGE_PATIENCE, page(response)).await.unwrap_or_default();
    let said = words(&page);
    if !said.is_empty() {
        reason.push_str(&format!(" ('{said}')"));
    }
    if let Some(id) = transaction {
        reason.push_str(&format!(" [{id}]"));
    }
    let secret = token.expose_secret();
    let reason = if secret.is_empty() { reason } else { reason.replace(secret, "***") };
    failed(action, reason, is_transient(status))
}

async fn page(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < PAGE_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            // It is only an explanation.
            Ok(None) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The first words of a page, without its tags and control characters.
fn words(page: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for character in page.chars() {
        match character {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                text.push(' ');
            }
            _ if inside => {}
            _ => text.push(if character.is_control() { ' ' } else { character }),
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_answers_another_attempt_may_mend() {
        let transient: Vec<u16> = (300..600).filter(|code| is_transient(StatusCode::from_u16(*code).unwrap())).collect();
        assert_eq!(transient.iter().copied().filter(|code| *code < 500).collect::<Vec<_>>(), [408, 409, 422, 425, 429, 499]);
        assert!(transient.contains(&500) && transient.contains(&503) && transient.contains(&507) && !transient.contains(&501));
    }

    #[test]
    fn pages_lose_their_tags() {
        assert_eq!(
            words("<html><h1>Request Entity Too Large</h1><p>Upload exceeds\n quota.</p></html>"),
            "Request Entity Too Large Upload exceeds quota."
        );
        assert_eq!(words(&"x".repeat(1000)).len(), WORDS);
    }
}
