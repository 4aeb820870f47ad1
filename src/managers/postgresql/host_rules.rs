//! `pg_hba.conf`: who may log in from where, and how. The agent writes all of it; the first line that fits counts.

use crate::config::TlsMode;

/// Whatever a restored database or a user's `md5` passwords may want, nothing but SCRAM lets anybody in, and the agent's role from this host alone.
/// Replicas log in as `replicator`, to follow and to be brought in line, and to nobody's databases. Root is the role `postgres`, which without a password can log in as the account of that name only.
const RULES: &str = "\
# Written by trove-guestagent: changes are lost.
# TYPE  DATABASE     USER      ADDRESS  METHOD
local   all          postgres           peer
local   replication  postgres           peer
local   all          all                scram-sha-256
local   replication  os_admin           scram-sha-256
host    all          os_admin  all      reject
host    replication  os_admin  all      reject
";

/// The whole file. Trove's modes: up to `basic` clients may use TLS, with `enforced` they must; with `mtls` the name in a certificate of the authorities is the role's, and there is
/// no password (trove/guestagent/datastore/postgres/service.py: `apply_access_rules`). Replicas have one whatever the mode; where the server has no TLS (`has_tls`), they must do without.
pub(super) fn rules(mode: Option<TlsMode>, has_tls: bool) -> String {
    let (anywhere, method) = match mode {
        None | Some(TlsMode::Basic) => ("host   ", "scram-sha-256"),
        Some(TlsMode::Enforced) => ("hostssl", "scram-sha-256"),
        Some(TlsMode::Mtls) => ("hostssl", "cert"),
    };
    let replicas = if has_tls { anywhere } else { "host   " };
    format!(
        "{RULES}{replicas} replication,postgres  replicator  all  scram-sha-256\n\
         host    all          replicator  all    reject\n\
         {anywhere} all          all       all      {method}\n"
    )
}

/// `pg_ident.conf`: nobody is anybody else.
pub(super) const IDENTITIES: &str = "# Written by trove-guestagent: changes are lost.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_use_tls_where_everybody_must_and_the_server_can() {
        let replicas = |mode, has_tls| {
            let rules = rules(mode, has_tls);
            let line = rules.lines().find(|line| line.contains("replication,postgres")).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!((replicas(None, true), replicas(Some(TlsMode::Basic), true)), ("host".to_owned(), "host".to_owned()));
        assert_eq!(
            (replicas(Some(TlsMode::Enforced), true), replicas(Some(TlsMode::Mtls), true)),
            ("hostssl".to_owned(), "hostssl".to_owned())
        );
        assert_eq!(replicas(Some(TlsMode::Enforced), false), "host");
        assert!(rules(Some(TlsMode::Mtls), true).ends_with("reject\nhostssl all          all       all      cert\n"));
    }
}
