//! MySQL, Percona Server and MariaDB: one family.
