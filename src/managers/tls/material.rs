//! [`Material`]: a key, a certificate and its authorities, checked before a server sees them.

use std::fmt;

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslContext, SslMethod};
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509PurposeId, X509Ref, X509StoreContext};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::config::TlsMode;
use crate::error::{Error, Result};

/// `container` of `ssl_action`: what a controller has taken out of a PKCS #12 bundle, in PEM (trove/common/ssl.py: `get_p12_bundle`).
#[derive(Debug, Clone, Deserialize)]
pub struct Container {
    /// The key.
    #[serde(default)]
    pub private_key: Option<SecretString>,
    /// The server's certificate, and perhaps intermediate ones after it.
    #[serde(default)]
    pub certificate: Option<String>,
    /// The authorities; empty when the bundle has none.
    #[serde(default)]
    pub ca: Option<String>,
}

/// What a server needs to speak TLS. It holds together: the key is the certificate's, the certificate is in force and of the authorities.
pub struct Material {
    pub(super) private_key: SecretString,
    pub(super) certificate: String,
    pub(super) authorities: Option<String>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").finish_non_exhaustive()
    }
}

impl Material {
    /// Checks what a controller has sent.
    ///
    /// # Errors
    /// What is wrong with it, without any of it.
    pub fn check(container: &Container, mode: TlsMode) -> Result<Material> {
        let chain = certificates("certificate", container.certificate.as_deref())?;
        let (server, intermediates) = chain.split_first().ok_or_else(|| refuse("there is no certificate"))?;
        let key = private_key(container.private_key.as_ref())?;
        if !server.public_key().is_ok_and(|public| public.public_eq(&key)) {
            return Err(refuse("the private key is not the certificate's"));
        }
        check_dates(server)?;
        let authorities = certificates("ca", container.ca.as_deref())?;
        if authorities.is_empty() && mode == TlsMode::Mtls {
            return Err(refuse("mode mtls needs the authorities (ca) that clients' certificates are of, and there are none"));
        }
        if !authorities.is_empty() {
            check_chain(server, intermediates, &authorities)?;
        }
        check_strength(server, &key)?;
        let pem = key.private_key_to_pem_pkcs8().map_err(unreadable("private_key"))?;
        let private_key = String::from_utf8(pem).map_err(|_| refuse("the private key cannot be written in PEM"))?.into();
        Ok(Material {
            private_key,
            certificate: pem_of("certificate", &chain)?,
            authorities: Some(pem_of("ca", &authorities)?).filter(|pem| !pem.is_empty()),
        })
    }
}

fn refuse(reason: &str) -> Error {
    Error::bad_request(format!("the certificate container cannot be used, and nothing was changed: {reason}"))
}

fn unreadable(what: &'static str) -> impl Fn(ErrorStack) -> Error {
    // OpenSSL's words name files and lines of its own, never the content.
    move |error| refuse(&format!("{what} is not what it should be in PEM ({})", reason(&error)))
}

/// The innermost reason.
fn reason(error: &ErrorStack) -> &'static str {
    error.errors().iter().find_map(|error| error.reason()).unwrap_or("no reason given")
}

fn certificates(what: &'static str, pem: Option<&str>) -> Result<Vec<X509>> {
    match pem.map(str::trim).filter(|pem| !pem.is_empty()) {
        Some(pem) => X509::stack_from_pem(pem.as_bytes()).map_err(unreadable(what)),
        None => Ok(Vec::new()),
    }
}

fn private_key(pem: Option<&SecretString>) -> Result<PKey<Private>> {
    let pem = pem.filter(|pem| !pem.expose_secret().trim().is_empty()).ok_or_else(|| refuse("there is no private key"))?;
    let mut asked = false;
    // Without this, OpenSSL would ask the terminal.
    let read = PKey::private_key_from_pem_callback(pem.expose_secret().as_bytes(), |_| {
        asked = true;
        Ok(0)
    });
    match read {
        _ if asked => {
            Err(refuse("the private key has a passphrase, which nobody could enter when the server starts: remove it from the key"))
        }
        read => read.map_err(unreadable("private_key")),
    }
}

fn check_dates(certificate: &X509Ref) -> Result<()> {
    let now = Asn1Time::days_from_now(0).map_err(unreadable("certificate"))?;
    if *certificate.not_after() <= *now {
        return Err(refuse(&format!("the certificate has expired ({})", certificate.not_after())));
    }
    if *certificate.not_before() > *now {
        return Err(refuse(&format!(
            "the certificate is not in force before {}; look at the guest's clock, too",
            certificate.not_before()
        )));
    }
    Ok(())
}

/// Clients have these authorities, and must come from them to the certificate. A bundle may end with an intermediate one.
fn check_chain(server: &X509, intermediates: &[X509], authorities: &[X509]) -> Result<()> {
    let verdict = || -> Result<Option<String>, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        authorities.iter().try_for_each(|authority| store.add_cert(authority.clone()))?;
        store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        store.set_purpose(X509PurposeId::SSL_SERVER)?;
        let store: X509Store = store.build();
        let mut between = Stack::new()?;
        intermediates.iter().try_for_each(|certificate| between.push(certificate.clone()))?;
        X509StoreContext::new()?.init(&store, server, &between, |context| {
            let holds = context.verify_cert()?;
            Ok((!holds).then(|| context.error().error_string().to_owned()))
        })
    };
    match verdict().map_err(unreadable("ca"))? {
        None => Ok(()),
        Some(reason) => Err(refuse(&format!("the certificate does not hold against the authorities (ca): {reason}"))),
    }
}

/// A key or a signature that the guest's OpenSSL takes for too weak would keep the server from starting.
fn check_strength(certificate: &X509Ref, key: &PKey<Private>) -> Result<()> {
    let used = || -> Result<(), ErrorStack> {
        let mut context = SslContext::builder(SslMethod::tls_server())?;
        context.set_certificate(certificate)?;
        context.set_private_key(key)?;
        context.check_private_key()
    };
    used().map_err(|error| refuse(&format!("this guest's OpenSSL does not take the certificate: {}", reason(&error))))
}

fn pem_of(what: &'static str, certificates: &[X509]) -> Result<String> {
    let parts: Result<Vec<Vec<u8>>, ErrorStack> = certificates.iter().map(|certificate| certificate.to_pem()).collect();
    String::from_utf8(parts.map_err(unreadable(what))?.concat()).map_err(|_| refuse("a certificate cannot be written in PEM"))
}
