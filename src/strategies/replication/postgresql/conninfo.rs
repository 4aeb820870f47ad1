//! [`Conninfo`]: how the server's own programs find a source.

use std::fmt;

use camino::Utf8PathBuf;

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
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conninfo { host, port, user, passfile, name } = self;
        let [host, user, passfile, name] = [host, user, passfile.as_str(), name].map(quoted);
        // Whoever is cut off notices, long before the kernel gives up.
        write!(
            f,
            "host={host} port={port} user={user} dbname=postgres passfile={passfile} application_name={name} connect_timeout=10 \
             keepalives_idle=10 keepalives_interval=5 keepalives_count=3"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted() {
        let conninfo =
            Conninfo { host: "h' user='x".into(), port: 5, user: "u\\".into(), passfile: "/a b".into(), name: "n".into() }.to_string();
        assert!(conninfo.starts_with("host='h\\' user=\\'x' port=5 user='u\\\\' dbname=postgres passfile='/a b' application_name='n' "));
    }
}
