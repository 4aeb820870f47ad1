//! [`Conninfo`]: how the server's own programs find a source.

use std::fmt;

use camino::Utf8PathBuf;

use crate::strategies::replication::Trust;

/// Parameters of a connection (manual, "Connection Strings"). The password is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conninfo {
    /// Address of the source.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The account.
    pub user: String,
    /// Password file.
    pub passfile: Utf8PathBuf,
    /// What the source shows of who is connected (`pg_stat_replication`).
    pub name: String,
    /// What is verified of the source; `None` for one that has told nothing of TLS, which is then used where it has it (libpq's `sslmode=prefer`).
    pub trust: Option<Trust>,
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conninfo { host, port, user, passfile, name, trust } = self;
        let [host, user, passfile, name] = [host, user, passfile.as_str(), name].map(quoted);
        // Whoever is cut off notices, long before the kernel gives up.
        write!(
            f,
            "host={host} port={port} user={user} dbname=postgres passfile={passfile} application_name={name} connect_timeout=10 \
             keepalives_idle=10 keepalives_interval=5 keepalives_count=3"
        )?;
        let Some(Trust { ca, names_source }) = trust else { return Ok(()) };
        match ca {
            None => write!(f, " sslmode=require")?,
            Some(ca) => {
                let mode = if *names_source { "verify-full" } else { "verify-ca" };
                write!(f, " sslmode={mode} sslrootcert={}", quoted(ca.as_str()))?;
            }
        }
        // There is none. Without this, libpq looks in the home of whoever has started it, and fails where it may not look.
        write!(f, " sslcert={}", quoted(self.passfile.with_file_name("replication-client.crt").as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted() {
        let of = |trust| {
            let passfile = "/a b".into();
            Conninfo { host: "h' user='x".into(), port: 5, user: "u\\".into(), passfile, name: "n".into(), trust }.to_string()
        };
        let conninfo = of(None);
        assert!(conninfo.starts_with("host='h\\' user=\\'x' port=5 user='u\\\\' dbname=postgres passfile='/a b' application_name='n' "));
        assert!(!conninfo.contains("ssl"), "{conninfo}");
        let verified = |ca: Option<&str>, names_source| of(Some(Trust { ca: ca.map(Into::into), names_source }));
        assert!(verified(None, false).ends_with("_count=3 sslmode=require sslcert='/replication-client.crt'"));
        assert!(verified(Some("/c'a"), false).contains(" sslmode=verify-ca sslrootcert='/c\\'a' "));
        assert!(verified(Some("/ca"), true).contains(" sslmode=verify-full sslrootcert='/ca' "));
    }
}
