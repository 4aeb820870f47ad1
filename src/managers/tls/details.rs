//! What `ssl_show` tells of a certificate (trove/common/ssl.py: `certificate_details`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use openssl::asn1::Asn1Time;
use openssl::nid::Nid;
use openssl::x509::{GeneralNameRef, X509, X509Ref};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::system::clock::Utc;

/// A certificate as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Details {
    /// The common name of its subject.
    pub(super) cn: Option<String>,
    /// Until when it is in force, in UTC.
    pub(super) expire_at: String,
    /// Its other names, as OpenSSL prints them.
    pub(super) san: Option<Vec<String>>,
    /// All of it, in PEM.
    pub(super) payload: String,
}

impl Details {
    /// Of the first certificate.
    pub(super) fn of(pem: String) -> Result<Details> {
        let certificate = X509::from_pem(pem.as_bytes())
            .map_err(|_| Error::guest("what the database's server shows its clients is no certificate that can be read"))?;
        let mut names = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
        let cn = names.next().and_then(|entry| entry.data().to_string().ok());
        let names: Vec<String> = certificate.subject_alt_names().into_iter().flatten().filter_map(|name| shown(&name)).collect();
        Ok(Details { cn, expire_at: end_of(&certificate)?, san: Some(names).filter(|names| !names.is_empty()), payload: pem })
    }
}

fn end_of(certificate: &X509Ref) -> Result<String> {
    let since_epoch = Asn1Time::from_unix(0).and_then(|epoch| epoch.diff(certificate.not_after()));
    let since_epoch = since_epoch.map_err(|_| Error::guest("the certificate's end cannot be read"))?;
    let seconds = i64::from(since_epoch.days) * 86_400 + i64::from(since_epoch.secs);
    Ok(Utc::from_seconds(u64::try_from(seconds).unwrap_or_default()).iso())
}

fn shown(name: &GeneralNameRef) -> Option<String> {
    let text = |kind: &str, text: Option<&str>| text.map(|text| format!("{kind}:{text}"));
    text("DNS", name.dnsname())
        .or_else(|| text("email", name.email()))
        .or_else(|| text("URI", name.uri()))
        .or_else(|| address(name.ipaddress()?))
}

fn address(octets: &[u8]) -> Option<String> {
    let address = match octets.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)),
    };
    let text = match address {
        IpAddr::V4(address) => address.to_string(),
        // OpenSSL leaves no zeros out.
        IpAddr::V6(address) => address.segments().map(|part| format!("{part:X}")).join(":"),
    };
    Some(format!("IP Address:{text}"))
}
