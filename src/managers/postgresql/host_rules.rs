//! `pg_hba.conf`: who may log in from where, and how. The agent writes all of it; the first line that fits counts.

/// Whatever a restored database or a user's `md5` passwords may want, nothing but SCRAM lets anybody in, and the agent's role from this host alone.
/// Root is the role `postgres`, which without a password can log in as the account of that name only.
pub(super) const RULES: &str = "\
# Written by trove-guestagent: changes are lost.
# TYPE  DATABASE     USER      ADDRESS  METHOD
local   all          postgres           peer
local   replication  postgres           peer
local   all          all                scram-sha-256
local   replication  os_admin           scram-sha-256
host    all          os_admin  all      reject
host    replication  os_admin  all      reject
host    all          all       all      scram-sha-256
";

/// `pg_ident.conf`: nobody is anybody else.
pub(super) const IDENTITIES: &str = "# Written by trove-guestagent: changes are lost.\n";
