//! Authorities and certificates, made while the test runs.

use camino::{Utf8Path, Utf8PathBuf};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};

const DAY: i64 = 24 * 60 * 60;

/// Who signs, and the directory its files go to.
pub(crate) struct Authority {
    cert: X509,
    key: PKey<Private>,
    dir: Utf8PathBuf,
    /// The authority's own certificate, for `ssl_ca_file`.
    pub(crate) file: Utf8PathBuf,
}

/// Files of one certificate.
pub(crate) struct Issued {
    pub(crate) cert: Utf8PathBuf,
    pub(crate) key: Utf8PathBuf,
}

/// From when until when, in days from now.
pub(crate) const VALID: (i64, i64) = (-1, 30);
pub(crate) const EXPIRED: (i64, i64) = (-30, -1);

impl Authority {
    pub(crate) fn new(dir: &Utf8Path, name: &str) -> Authority {
        let key = new_key();
        let mut builder = start(name, &key, VALID);
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.append_extension(KeyUsage::new().key_cert_sign().crl_sign().build().unwrap()).unwrap();
        builder.set_issuer_name(&common_name(name)).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let cert = builder.build();
        let file = dir.join(format!("{name}-ca.pem"));
        std::fs::write(&file, cert.to_pem().unwrap()).unwrap();
        Authority { cert, key, dir: dir.to_owned(), file }
    }

    /// `names` are addresses and host names.
    pub(crate) fn issue(&self, name: &str, names: &[&str], (from, until): (i64, i64)) -> Issued {
        let key = new_key();
        let mut builder = start(name, &key, (from, until));
        builder.set_issuer_name(self.cert.subject_name()).unwrap();
        let mut alternatives = SubjectAlternativeName::new();
        for name in names {
            if name.parse::<std::net::IpAddr>().is_ok() {
                alternatives.ip(name)
            } else {
                alternatives.dns(name)
            };
        }
        if !names.is_empty() {
            let extension = alternatives.build(&builder.x509v3_context(Some(&self.cert), None)).unwrap();
            builder.append_extension(extension).unwrap();
        }
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        let issued = Issued { cert: self.dir.join(format!("{name}.pem")), key: self.dir.join(format!("{name}.key")) };
        std::fs::write(&issued.cert, builder.build().to_pem().unwrap()).unwrap();
        // The directory is the test's own; the broker reads it as another account.
        std::fs::write(&issued.key, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        issued
    }
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn common_name(name: &str) -> X509Name {
    let mut builder = X509Name::builder().unwrap();
    builder.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    builder.build()
}

fn start(name: &str, key: &PKey<Private>, (from, until): (i64, i64)) -> X509Builder {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_slice(uuid::Uuid::new_v4().as_bytes()).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&common_name(name)).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(now + from * DAY).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now + until * DAY).unwrap()).unwrap();
    builder
}
