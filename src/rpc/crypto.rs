//! Encryption of arguments, context and results with the instance's key
//! (trove/common/crypto_utils.py, trove/common/rpc/secure_serializer.py).
//!
//! AES-256-CBC, the key being the lower-case hexadecimal MD5 of the configured text, a random IV in front, PKCS#7, base64.
//! There is no MAC in the format; a value that does not decrypt to JSON is refused, never passed on as text.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::symm::Cipher;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

const IV_SIZE: usize = 16;

/// `instance_rpc_encr_key`, ready for use.
#[derive(Clone)]
pub struct InstanceKey {
    /// 32 ASCII characters: the hexadecimal digits of the MD5, used as they are.
    key: SecretString,
}

impl PartialEq for InstanceKey {
    fn eq(&self, other: &Self) -> bool {
        self.key.expose_secret() == other.key.expose_secret()
    }
}

impl fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InstanceKey([REDACTED])")
    }
}

impl InstanceKey {
    /// Derives the key from the text of the configuration.
    ///
    /// # Errors
    /// OpenSSL refuses MD5 (a FIPS provider): then encrypted RPC cannot work on this guest.
    pub fn derive(configured: &SecretString) -> Result<Self> {
        let digest = openssl::hash::hash(openssl::hash::MessageDigest::md5(), configured.expose_secret().as_bytes())
            .map_err(|error| crypto(format!("OpenSSL refuses MD5, which Trove derives the RPC key with: {error}")))?;
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(InstanceKey { key: hex.into() })
    }

    /// Encrypts the JSON text of `value`.
    ///
    /// # Errors
    /// OpenSSL failed.
    pub fn encrypt(&self, value: &Value) -> Result<String> {
        let mut iv = [0; IV_SIZE];
        openssl::rand::rand_bytes(&mut iv).map_err(|error| crypto(format!("no random bytes: {error}")))?;
        self.encrypt_with_iv(value, &iv)
    }

    fn encrypt_with_iv(&self, value: &Value, iv: &[u8; IV_SIZE]) -> Result<String> {
        let sealed =
            openssl::symm::encrypt(Cipher::aes_256_cbc(), self.key.expose_secret().as_bytes(), Some(iv), value.to_string().as_bytes())
                .map_err(|error| crypto(format!("cannot encrypt: {error}")))?;
        Ok(STANDARD.encode([iv.as_slice(), &sealed].concat()))
    }

    /// Decrypts one value.
    ///
    /// # Errors
    /// [`Error::Crypto`] naming `what`: not a string, not base64, another key, damaged.
    pub fn decrypt(&self, what: &str, value: &Value) -> Result<Value> {
        let wrong = |reason: &str| {
            crypto(format!("{what} {reason}; this guest has an instance_rpc_encr_key, so the controller must encrypt with the same key"))
        };
        let text = value.as_str().ok_or_else(|| wrong("is not encrypted"))?;
        let bytes = STANDARD.decode(text).map_err(|_| wrong("is not encrypted"))?;
        let (iv, sealed) = bytes.split_at_checked(IV_SIZE).ok_or_else(|| wrong("is too short to be encrypted"))?;
        let plain = openssl::symm::decrypt(Cipher::aes_256_cbc(), self.key.expose_secret().as_bytes(), Some(iv), sealed)
            .map_err(|_| wrong("was encrypted with another key"))?;
        serde_json::from_slice(&plain).map_err(|_| wrong("was encrypted with another key"))
    }

    /// Decrypts a request: each argument, and the one context value.
    ///
    /// # Errors
    /// [`Error::Crypto`] when anything is in the clear or does not decrypt: a key means that plaintext is refused.
    pub fn decrypt_request(
        &self,
        args: &Map<String, Value>,
        context: &Map<String, Value>,
    ) -> Result<(Map<String, Value>, Map<String, Value>)> {
        let sealed = context.get("context").ok_or_else(|| {
            crypto("the request is not encrypted; this guest has an instance_rpc_encr_key and refuses plaintext".to_owned())
        })?;
        let Value::Object(context) = self.decrypt("the request's context", sealed)? else {
            return Err(crypto("the request's context is not an object".to_owned()));
        };
        let args = args
            .iter()
            .map(|(name, value)| self.decrypt(&format!("argument '{name}'"), value).map(|value| (name.clone(), value)))
            .collect::<Result<_>>()?;
        Ok((args, context))
    }
}

fn crypto(message: String) -> Error {
    Error::Crypto { message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(text: &str) -> InstanceKey {
        InstanceKey::derive(&text.into()).unwrap()
    }

    #[test]
    fn the_known_vector_comes_out() {
        let key = key("0123456789abcdefGHIJKLMNOPQRSTuv");
        assert_eq!(key.encrypt_with_iv(&json!(true), &[0; 16]).unwrap(), "AAAAAAAAAAAAAAAAAAAAAP/lrrcsSH2N1mXp+k1Eo+I=");
        assert_eq!(key.decrypt("it", &json!("AAAAAAAAAAAAAAAAAAAAAP/lrrcsSH2N1mXp+k1Eo+I=")).unwrap(), json!(true));
    }

    #[test]
    fn another_key_plaintext_and_damage_are_refused() {
        let sealed = key("one").encrypt(&json!({"a": "planted-secret"})).unwrap();
        for value in [json!(sealed), json!("planted-secret"), json!("AAAA"), json!(5)] {
            let error = key("two").decrypt("argument 'x'", &value).unwrap_err().to_string();
            assert!(error.starts_with("argument 'x' ") && !error.contains("planted"), "{error}");
        }
        let plain = key("one").decrypt_request(&Map::new(), &Map::new()).unwrap_err().to_string();
        assert!(plain.contains("refuses plaintext"), "{plain}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_survives(text: String, secret in "[A-Za-z0-9]{32}") {
            let key = key(&secret);
            let sealed = json!(key.encrypt(&json!(text)).unwrap());
            proptest::prop_assert_eq!(key.decrypt("it", &sealed).unwrap(), json!(text));
        }
    }
}
