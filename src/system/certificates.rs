//! Certificates: in files of PEM, of other servers, and of the agent's own making.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use camino::Utf8Path;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{HandshakeError, SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509NameBuilder};
use secrecy::SecretString;

use super::files;
use crate::error::{Error, Result};
use crate::op::{Op, spawn_blocking};

/// How long a server may take for each step of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Nobody looks at the dates of a certificate that proves nothing, but some refuse one that has expired.
const DAYS: u32 = 3650;

/// Looks whether a server that speaks TLS from its first byte has a certificate of one of these authorities. What it demands of those who connect is not looked at.
///
/// # Errors
/// It is not reached, speaks no TLS, or has a certificate of somebody else.
pub async fn check_server(op: &Op, host: &str, port: u16, authorities: Vec<X509>) -> Result<()> {
    let name = host.to_owned();
    let checked = spawn_blocking(move || shake_hands(&name, port, authorities));
    let action = format!("look at the certificate of {host}:{port}");
    let checked = op.in_time(&action, 3 * HANDSHAKE, checked).await?;
    checked.map_err(|error| Error::guest(format!("{action}: {error}")))?.map_err(|reason| Error::guest(format!("{action}: {reason}")))
}

fn shake_hands(host: &str, port: u16, authorities: Vec<X509>) -> std::result::Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let address = (host, port).to_socket_addrs().map_err(|error| text(&error))?.next().ok_or("there is no such address")?;
    let stream = TcpStream::connect_timeout(&address, HANDSHAKE).map_err(|error| text(&error))?;
    stream.set_read_timeout(Some(HANDSHAKE)).and_then(|()| stream.set_write_timeout(Some(HANDSHAKE))).map_err(|error| text(&error))?;
    let connector = || {
        let mut store = X509StoreBuilder::new()?;
        authorities.into_iter().try_for_each(|authority| store.add_cert(authority))?;
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_cert_store(store.build());
        builder.set_verify(SslVerifyMode::PEER);
        let mut configuration = builder.build().configure()?;
        configuration.set_verify_hostname(false);
        Ok::<_, ErrorStack>(configuration)
    };
    match connector().map_err(|error| text(&error))?.connect(host, stream) {
        Ok(_) => Ok(()),
        Err(HandshakeError::SetupFailure(error)) => Err(text(&error)),
        Err(HandshakeError::Failure(failed) | HandshakeError::WouldBlock(failed)) => Err(text(failed.error())),
    }
}

/// A key and a certificate that nobody has signed, in PEM: for programs that connect with nothing less, to servers that do not look at it.
///
/// # Errors
/// OpenSSL refuses.
pub fn self_signed(name: &str) -> Result<(SecretString, String)> {
    let made = || {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
        let mut subject = X509NameBuilder::new()?;
        subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
        let subject = subject.build();
        let mut serial = BigNum::new()?;
        serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
        let mut builder = X509::builder()?;
        builder.set_version(2)?;
        builder.set_serial_number(&*serial.to_asn1_integer()?)?;
        builder.set_subject_name(&subject)?;
        builder.set_issuer_name(&subject)?;
        builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
        builder.set_not_after(&*Asn1Time::days_from_now(DAYS)?)?;
        builder.set_pubkey(&key)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok::<_, ErrorStack>((key.private_key_to_pem_pkcs8()?, builder.build().to_pem()?))
    };
    let (key, certificate) = made().map_err(|error| Error::guest(format!("a certificate cannot be made: {error}")))?;
    let text = |pem| String::from_utf8(pem).map_err(|_| Error::guest("a certificate cannot be written in PEM"));
    Ok((text(key)?.into(), text(certificate)?))
}

/// The certificates in a file, and not a private key that is in it as well. `None` when there is no such file, or no certificate in it.
///
/// # Errors
/// The file cannot be read, or what it calls a certificate is none.
pub fn public_part(path: &Utf8Path) -> Result<Option<String>> {
    let Some(text) = files::read_optional(path)? else { return Ok(None) };
    let pem = X509::stack_from_pem(text.as_bytes())
        .and_then(|found| found.iter().map(|one| one.to_pem()).collect::<std::result::Result<Vec<_>, _>>())
        .map_err(|error| Error::guest(format!("{path} has no certificates that can be read: {error}")))?
        .concat();
    Ok(String::from_utf8(pem).ok().filter(|pem| !pem.is_empty()))
}
