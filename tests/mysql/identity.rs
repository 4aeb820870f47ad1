//! Authorities and certificates, made while the test runs.

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use serde_json::{Value, json};

const DAY: i64 = 24 * 60 * 60;
/// From when until when, in days from now.
const VALID: (i64, i64) = (-1, 30);

/// An authority, or what one signs.
pub(crate) struct Identity {
    pub(crate) key: PKey<Private>,
    pub(crate) certificate: X509,
}

impl Identity {
    pub(crate) fn new(name: &str, issuer: Option<&Identity>, address: Option<&str>) -> Identity {
        Identity::with(name, issuer, address, 2048, VALID)
    }

    /// With a key of so many bits, and in force from day to day.
    pub(crate) fn with(name: &str, issuer: Option<&Identity>, address: Option<&str>, bits: u32, (from, until): (i64, i64)) -> Identity {
        let now = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let key = PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
        let subject = subject.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder
            .set_serial_number(&BigNum::from_slice(&uuid::Uuid::new_v4().into_bytes()[1..]).unwrap().to_asn1_integer().unwrap())
            .unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name())).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(now + from * DAY).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_unix(now + until * DAY).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        if issuer.is_none() {
            builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        }
        if let Some(address) = address {
            let names = SubjectAlternativeName::new().dns("db.example").ip(address).build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(names).unwrap();
        }
        builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
        Identity { key, certificate: builder.build() }
    }

    pub(crate) fn pem(&self) -> String {
        String::from_utf8(self.certificate.to_pem().unwrap()).unwrap()
    }

    /// In the form that controllers take out of a bundle (`TraditionalOpenSSL`).
    pub(crate) fn key_pem(&self) -> String {
        String::from_utf8(self.key.rsa().unwrap().private_key_to_pem().unwrap()).unwrap()
    }

    pub(crate) fn locked_key_pem(&self) -> String {
        String::from_utf8(self.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"locked").unwrap()).unwrap()
    }

    /// The container of `ssl_action`.
    pub(crate) fn container(&self, authority: &Identity) -> Value {
        json!({"private_key": self.key_pem(), "certificate": self.pem(), "ca": authority.pem()})
    }
}
