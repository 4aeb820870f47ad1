//! [`Encryption`]: TLS of a session with another host's server.

use std::fmt;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::config::SslMode;

use crate::error::{Error, Result};

/// How a session is encrypted, and what is verified of the server.
#[derive(Clone)]
pub struct Encryption {
    pub(super) mode: SslMode,
    pub(super) connector: MakeTlsConnector,
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encryption").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Encryption {
    /// Encrypted where the server can, whoever it is: what the server's own programs do by themselves (`sslmode=prefer`).
    ///
    /// # Errors
    /// OpenSSL refuses.
    pub fn preferred() -> Result<Encryption> {
        Encryption::new(SslMode::Prefer, Vec::new(), false)
    }

    /// Encrypted in any case. With `authorities`, the server's certificate must be of one of them, and, with `names_host`, name the host (`sslmode=require`, `verify-ca`, `verify-full`).
    ///
    /// # Errors
    /// OpenSSL refuses.
    pub fn required(authorities: Vec<X509>, names_host: bool) -> Result<Encryption> {
        Encryption::new(SslMode::Require, authorities, names_host)
    }

    fn new(mode: SslMode, authorities: Vec<X509>, names_host: bool) -> Result<Encryption> {
        let verify = if authorities.is_empty() { SslVerifyMode::NONE } else { SslVerifyMode::PEER };
        let built = || {
            let mut builder = SslConnector::builder(SslMethod::tls_client())?;
            // None of the guest's own authorities.
            let mut store = X509StoreBuilder::new()?;
            authorities.into_iter().try_for_each(|authority| store.add_cert(authority))?;
            builder.set_cert_store(store.build());
            builder.set_verify(verify);
            Ok::<_, openssl::error::ErrorStack>(builder.build())
        };
        let connector = built().map_err(|error| Error::guest(format!("TLS to another server cannot be set up: {error}")))?;
        let mut connector = MakeTlsConnector::new(connector);
        connector.set_callback(move |configuration, _| {
            configuration.set_verify_hostname(names_host);
            Ok(())
        });
        Ok(Encryption { mode, connector })
    }
}
