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
host    replication,postgres  replicator  all  scram-sha-256
host    all          replicator  all    reject
";

/// The whole file. Trove's modes: up to `basic` clients may use TLS, with `enforced` they must; with `mtls` the name in a certificate of the authorities is the role's, and there is
/// no password (trove/guestagent/datastore/postgres/service.py: `apply_access_rules`).
pub(super) fn rules(mode: Option<TlsMode>) -> String {
    let everybody = match mode {
        None | Some(TlsMode::Basic) => "host    all          all       all      scram-sha-256\n",
        Some(TlsMode::Enforced) => "hostssl all          all       all      scram-sha-256\n",
        Some(TlsMode::Mtls) => "hostssl all          all       all      cert\n",
    };
    format!("{RULES}{everybody}")
}

/// `pg_ident.conf`: nobody is anybody else.
pub(super) const IDENTITIES: &str = "# Written by trove-guestagent: changes are lost.\n";
