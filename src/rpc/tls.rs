//! TLS to the broker: as `[oslo_messaging_rabbit] ssl*` say, and in plain words why it failed.
//!
//! lapin's own connector always trusts the system's authorities and always verifies. oslo.messaging (kombu, amqp/transport.py) trusts those
//! of `ssl_ca_file` alone, and verifies nothing without that file.

use std::io;
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use camino::Utf8Path;
use lapin::tcp::OpensslConnector;
use lapin::{Error as LapinError, ErrorKind};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{HandshakeError, SslConnectorBuilder, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509Ref, X509StoreContextRef};

use crate::config::{TlsSettings, TlsVersion};
use crate::error::{Error, Result, ResultExt};

/// OpenSSL refuses TLS 1.0 and 1.1 at its usual security level; who asks for one of them by name means it.
const OLD_CIPHERS: &str = "DEFAULT:@SECLEVEL=0";
/// More names than these say nothing more.
const MOST_NAMES: usize = 8;

/// What the verification of the broker's certificate found wrong.
type Finding = Arc<Mutex<Option<String>>>;

/// Makes one connection.
pub(super) struct Connector {
    connector: OpensslConnector,
    finding: Finding,
    host: String,
}

/// A sentence for the operator, carried through lapin as the cause of its error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

impl Connector {
    /// Reads the files, each time anew: a renewed certificate needs no restart.
    ///
    /// # Errors
    /// A file cannot be read, or does not hold what its option says.
    pub(super) fn new(tls: &TlsSettings, host: &str) -> Result<Self> {
        let finding = Finding::default();
        let mut builder = OpensslConnector::builder(SslMethod::tls_client()).map_err(openssl_error)?;
        set_version(&mut builder, tls.version).map_err(openssl_error)?;
        match &tls.ca_file {
            Some(path) => trust(&mut builder, path, tls.verify_hostname, host, &finding)?,
            None => builder.set_verify(SslVerifyMode::NONE),
        }
        identify(&mut builder, tls)?;
        Ok(Connector { connector: builder.build(), finding, host: host.to_owned() })
    }

    /// The connector, for the stream.
    pub(super) fn openssl(&self) -> &OpensslConnector {
        &self.connector
    }

    /// What to tell of a handshake that failed.
    pub(super) fn explain(&self, error: io::Error) -> LapinError {
        let finding = self.finding.lock().expect("never poisoned: no panics while held").take();
        let text = finding.unwrap_or_else(|| {
            let advice = reasons(&error).iter().find_map(|reason| advice(*reason, Stage::Handshake));
            let advice = advice.or_else(|| is_ending(&error).then_some(ENDED));
            match advice {
                Some(advice) => format!("the TLS handshake with '{}' failed: {error}: {advice}", self.host),
                None => format!("the TLS handshake with '{}' failed: {error}", self.host),
            }
        });
        io::Error::other(Refusal(text)).into()
    }
}

/// The words of [`Connector::explain`], when this is what ended a connection.
pub(super) fn refusal(error: &LapinError) -> Option<String> {
    let ErrorKind::IOError(io) = error.kind() else { return None };
    io.get_ref()?.downcast_ref::<Refusal>().map(Refusal::to_string)
}

/// Why a broker that lets TCP through ends the connection, if TLS has to do with it.
///
/// The first attempt may not hear it: with TLS 1.3 the broker judges our certificate after the handshake, when lapin writes already, and what
/// is written to a closed connection can cost the alert. So it is asked once more, and nothing written. Blocks for a few seconds at most.
pub(super) fn diagnose(tls: Option<&TlsSettings>, host: &str, port: u16) -> Option<&'static str> {
    let stream = (host, port).to_socket_addrs().ok()?.find_map(|address| TcpStream::connect_timeout(&address, DIAGNOSIS_TIMEOUT).ok())?;
    stream.set_read_timeout(Some(DIAGNOSIS_TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(DIAGNOSIS_TIMEOUT)).ok()?;
    let Some(tls) = tls else {
        let mut builder = OpensslConnector::builder(SslMethod::tls_client()).ok()?;
        builder.set_verify(SslVerifyMode::NONE);
        return match builder.build().connect(host, stream) {
            Ok(_) => Some(IS_TLS),
            Err(HandshakeError::Failure(failed)) => codes(failed.error()).iter().any(|code| *code >= FIRST_ALERT).then_some(IS_TLS),
            Err(_) => None,
        };
    };
    let mut stream = Connector::new(tls, host).ok()?.connector.connect(host, stream).ok()?;
    // The broker waits for a header: what comes before is an alert.
    let error = stream.ssl_read(&mut [0]).err()?;
    codes(&error).iter().find_map(|code| advice(*code, Stage::Later))
}

/// Whether [`diagnose`] may know more.
pub(super) fn is_sudden(error: &LapinError) -> bool {
    match error.kind() {
        ErrorKind::IOError(io) => is_ending(io) || !reasons(io).is_empty(),
        ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_) | ErrorKind::InvalidConnectionState(_) => true,
        _ => false,
    }
}

/// For each step of a diagnosis.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(2);
const IS_TLS: &str = "this port of the broker is for TLS: set ssl = true, or use the one without (usually 5672) in transport_url";
const ENDED: &str = "the broker ended the connection; is this its port for TLS, and does it have a certificate?";
const NOT_TLS: &str = "what answers does not speak TLS: use the broker's port for TLS (usually 5671) in transport_url, or set ssl = false";
const VERSIONS: &str = "guest and broker have no version of TLS in common: check ssl_version, and ssl_options.versions of the broker";

/// When an alert came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake,
    Later,
}

/// OpenSSL's reason codes from here on are alerts that the broker sent.
const FIRST_ALERT: i32 = 1000;

/// By OpenSSL's reason codes (sslerr.h).
fn advice(reason: i32, stage: Stage) -> Option<&'static str> {
    match reason {
        // WRONG_VERSION_NUMBER, PACKET_LENGTH_TOO_LONG, HTTP_REQUEST
        267 | 198 | 156 => Some(NOT_TLS),
        // UNSUPPORTED_PROTOCOL, NO_PROTOCOLS_AVAILABLE, WRONG_SSL_VERSION; alerts protocol_version and insufficient_security
        258 | 191 | 266 | 1070 | 1071 => Some(VERSIONS),
        // certificate_required
        1116 => Some("the broker demands a client certificate: set ssl_cert_file and ssl_key_file"),
        // handshake_failure: with TLS 1.2 this is all that is said of a missing certificate
        1040 => Some(
            "the broker refuses: if it demands a client certificate, set ssl_cert_file and ssl_key_file; else compare ciphers and versions",
        ),
        // unknown_ca
        1048 => Some("the broker does not know the authority that signed ssl_cert_file: add it to the broker's ssl_options.cacertfile"),
        // certificate_expired
        1045 => Some("the certificate in ssl_cert_file has expired: renew it"),
        // bad_certificate, unsupported_certificate, certificate_revoked, certificate_unknown, access_denied
        1042 | 1043 | 1044 | 1046 | 1049 => Some("the broker refuses the certificate in ssl_cert_file"),
        // UNEXPECTED_EOF_WHILE_READING
        294 if stage == Stage::Handshake => Some(ENDED),
        _ => None,
    }
}

fn reasons(error: &io::Error) -> Vec<i32> {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<openssl::ssl::Error>());
    inner.map_or_else(Vec::new, codes)
}

fn codes(error: &openssl::ssl::Error) -> Vec<i32> {
    error.ssl_error().map_or_else(Vec::new, |stack| stack.errors().iter().map(openssl::error::Error::reason_code).collect())
}

fn is_ending(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<openssl::ssl::Error>());
    let kind = inner.and_then(openssl::ssl::Error::io_error).map_or(error.kind(), io::Error::kind);
    let silent = inner.is_some_and(|inner| inner.code() == openssl::ssl::ErrorCode::SYSCALL && inner.io_error().is_none());
    silent || matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn set_version(builder: &mut SslConnectorBuilder, version: Option<TlsVersion>) -> std::result::Result<(), ErrorStack> {
    let version = match version {
        None => return Ok(()),
        Some(TlsVersion::Tls1) => SslVersion::TLS1,
        Some(TlsVersion::Tls11) => SslVersion::TLS1_1,
        Some(TlsVersion::Tls12) => SslVersion::TLS1_2,
    };
    if version != SslVersion::TLS1_2 {
        builder.set_cipher_list(OLD_CIPHERS)?;
    }
    builder.set_min_proto_version(Some(version))?;
    builder.set_max_proto_version(Some(version))
}

/// Trusts the authorities of the file, and no others.
fn trust(builder: &mut SslConnectorBuilder, path: &Utf8Path, verify_hostname: bool, host: &str, finding: &Finding) -> Result<()> {
    let pem = std::fs::read(path).action(format!("read ssl_ca_file {path}"))?;
    let authorities = X509::stack_from_pem(&pem).unwrap_or_default();
    if authorities.is_empty() {
        return Err(Error::guest(format!("ssl_ca_file {path} holds no certificate in PEM")));
    }
    let mut store = X509StoreBuilder::new().map_err(openssl_error)?;
    for authority in authorities {
        store.add_cert(authority).map_err(openssl_error)?;
    }
    builder.set_cert_store(store.build());
    let (finding, host, path) = (finding.clone(), host.to_owned(), path.to_owned());
    builder.set_verify_callback(SslVerifyMode::PEER, move |is_good, context| {
        let code = context.error().as_raw();
        if is_good || (!verify_hostname && matches!(code, HOSTNAME_MISMATCH | IP_ADDRESS_MISMATCH)) {
            return true;
        }
        *finding.lock().expect("never poisoned: no panics while held") = Some(describe(context, &host, &path));
        false
    });
    Ok(())
}

/// Results of verification (x509_vfy.h).
const UNABLE_TO_GET_ISSUER: i32 = 2;
const NOT_YET_VALID: i32 = 9;
const HAS_EXPIRED: i32 = 10;
const SELF_SIGNED: i32 = 18;
const SELF_SIGNED_IN_CHAIN: i32 = 19;
const UNABLE_TO_GET_ISSUER_LOCALLY: i32 = 20;
const UNABLE_TO_VERIFY_LEAF: i32 = 21;
const HOSTNAME_MISMATCH: i32 = 62;
const IP_ADDRESS_MISMATCH: i32 = 64;

fn describe(context: &X509StoreContextRef, host: &str, ca_file: &Utf8Path) -> String {
    let result = context.error();
    let subject = context.current_cert().map_or_else(|| "?".to_owned(), subject);
    let what = if context.error_depth() == 0 { "the broker's certificate" } else { "a certificate of the broker's chain" };
    match result.as_raw() {
        HAS_EXPIRED => {
            let end = context.current_cert().map_or_else(String::new, |cert| format!(" on {}", cert.not_after()));
            format!("{what} ({subject}) has expired{end}: renew it, or set this guest's clock")
        }
        NOT_YET_VALID => {
            let start = context.current_cert().map_or_else(String::new, |cert| format!(" before {}", cert.not_before()));
            format!("{what} ({subject}) is not valid{start}: set this guest's clock")
        }
        HOSTNAME_MISMATCH | IP_ADDRESS_MISMATCH => format!(
            "the broker's certificate ({subject}) is not for '{host}' but for {}: write one of these names in transport_url, give the broker \
             a certificate for '{host}', or set ssl_enforce_hostname_verification = false",
            context.current_cert().map_or_else(|| "nobody".to_owned(), names)
        ),
        UNABLE_TO_GET_ISSUER | SELF_SIGNED | SELF_SIGNED_IN_CHAIN | UNABLE_TO_GET_ISSUER_LOCALLY | UNABLE_TO_VERIFY_LEAF => format!(
            "{what} ({subject}) is not signed by an authority in ssl_ca_file {ca_file} ({}): put the authority that signed it there",
            result.error_string()
        ),
        _ => format!("{what} ({subject}) is not good: {}", result.error_string()),
    }
}

fn subject(cert: &X509Ref) -> String {
    let name = cert.subject_name().entries_by_nid(Nid::COMMONNAME).next().and_then(|entry| entry.data().to_string().ok());
    name.map_or_else(|| "without a common name".to_owned(), |name| name.escape_debug().collect())
}

/// The names a certificate is for.
fn names(cert: &X509Ref) -> String {
    let alternatives = cert.subject_alt_names();
    let listed: Vec<String> = alternatives
        .iter()
        .flatten()
        .filter_map(|name| match (name.dnsname(), name.ipaddress()) {
            (Some(dns), _) => Some(dns.escape_debug().collect()),
            (None, Some(address)) => address_text(address),
            (None, None) => None,
        })
        .take(MOST_NAMES)
        .collect();
    if listed.is_empty() { subject(cert) } else { listed.join(", ") }
}

fn address_text(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
}

/// The client certificate. Like Python's `load_cert_chain`, its key may be in the same file.
fn identify(builder: &mut SslConnectorBuilder, tls: &TlsSettings) -> Result<()> {
    let cert_path = match (&tls.cert_file, &tls.key_file) {
        (Some(path), _) => path,
        (None, Some(key)) => return Err(Error::guest(format!("ssl_key_file {key} is of no use without ssl_cert_file"))),
        (None, None) => return Ok(()),
    };
    let (key_option, key_path) = tls.key_file.as_ref().map_or(("ssl_cert_file", cert_path), |path| ("ssl_key_file", path));
    let pem = std::fs::read(cert_path).action(format!("read ssl_cert_file {cert_path}"))?;
    let mut chain = X509::stack_from_pem(&pem).unwrap_or_default().into_iter();
    let Some(cert) = chain.next() else {
        return Err(Error::guest(format!("ssl_cert_file {cert_path} holds no certificate in PEM")));
    };
    let key = read_key(key_option, key_path)?;
    if !cert.public_key().map_err(openssl_error)?.public_eq(&key) {
        return Err(Error::guest(format!(
            "the key in {key_option} {key_path} does not belong to the certificate in ssl_cert_file {cert_path}"
        )));
    }
    builder.set_certificate(&cert).map_err(openssl_error)?;
    builder.set_private_key(&key).map_err(openssl_error)?;
    for authority in chain {
        builder.add_extra_chain_cert(authority).map_err(openssl_error)?;
    }
    Ok(())
}

fn read_key(option: &str, path: &Utf8Path) -> Result<PKey<Private>> {
    let pem = std::fs::read(path).action(format!("read {option} {path}"))?;
    let mut locked = false;
    // Without a callback OpenSSL would ask at the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |_| {
        locked = true;
        Ok(0)
    });
    key.map_err(|_| {
        let why = if locked {
            "is locked with a passphrase, which nobody is there to give: store it without one"
        } else {
            "is not a private key in PEM"
        };
        Error::guest(format!("the key in {option} {path} {why}"))
    })
}

fn openssl_error(error: ErrorStack) -> Error {
    Error::guest(format!("OpenSSL refuses: {error}"))
}
