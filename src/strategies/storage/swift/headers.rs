//! Names and metadata as they stand in a request: encoded as python-swiftclient does, so that either reads the other's.

use std::time::SystemTime;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, Result};
use crate::model::BackupMetadata;
use crate::strategies::storage::quoting::{escape, unquote};

const META: &str = "x-object-meta-";

/// `X-Object-Meta-*`. Values are UTF-8, with what a header cannot carry, and the percent sign, encoded.
///
/// # Errors
/// A key that is no name of a header.
pub(super) fn from_metadata(metadata: &BackupMetadata) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (key, value) in metadata {
        let wrong = || Error::invalid(format!("'{}' cannot be the name of metadata of a backup", key.escape_debug()));
        let name = HeaderName::try_from(format!("{META}{}", key.replace('_', "-"))).map_err(|_| wrong())?;
        let edge = |text: &str| text.starts_with(' ') || text.ends_with(' ');
        let value = escape(value, |byte| byte != b'%' && byte != 0x7f && (byte > b' ' || (byte == b' ' && !edge(value))));
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?);
    }
    Ok(headers)
}

/// The metadata in the headers of an answer: keys in lower case with underscores.
pub(super) fn to_metadata(headers: &HeaderMap) -> BackupMetadata {
    let own = headers.iter().filter_map(|(name, value)| Some((name.as_str().strip_prefix(META)?, value)));
    own.map(|(key, value)| (key.replace('-', "_"), unquote(value.as_bytes()))).collect()
}

/// An entity tag without its quotes, or nothing.
pub(super) fn etag(headers: &HeaderMap) -> Option<String> {
    text(headers, "etag").map(|tag| tag.trim_matches('"').to_owned())
}

/// When the answer was made, by the server's clock.
pub(super) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    text(headers, "date").and_then(|text| httpdate::parse_http_date(&text).ok())
}

/// A header's text, if it is one.
pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_and_values_as_the_python_agent_has_them() {
        let metadata = BackupMetadata::from([
            ("parent_location".to_owned(), "http://swift/v1/AUTH_t/c/o".to_owned()),
            ("datastore_version".to_owned(), "5.7 größer 100%".to_owned()),
        ]);
        let headers = from_metadata(&metadata).unwrap();
        assert_eq!(headers["x-object-meta-parent-location"], "http://swift/v1/AUTH_t/c/o");
        assert_eq!(
            headers["x-object-meta-datastore-version"].as_bytes(),
            "5.7 gr%C3%B6%C3%9Fer 100%25".replace("%C3%B6", "ö").replace("%C3%9F", "ß").as_bytes()
        );
        assert_eq!(to_metadata(&headers), metadata);
        assert!(from_metadata(&BackupMetadata::from([("a:b".to_owned(), String::new())])).is_err());
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in "\\PC*|[ -~\\r\\n\\t]*") {
            let metadata = BackupMetadata::from([("key".to_owned(), value)]);
            prop_assert_eq!(to_metadata(&from_metadata(&metadata).unwrap()), metadata);
        }
    }
}
