"""What replication sets of different datastores do differently: clients, statements, and how a member is kept from hearing of its source."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import psycopg2  # Trove itself requires it.
import pymysql
from bench.deployment import MARIADB, MYSQL, POSTGRESQL, Kind, Server
from bench.waiting import wait_until

# Whoever is cut off notices within so long.
CLIENT_SECONDS = 3
RELOAD_SECONDS = 30.0
BINLOG = "trove.guestagent.strategies.replication.mysql_binlog.MysqlBinlogReplication"


class Engine(abc.ABC):
    """A datastore. Statements go to the database `first`, as its owner."""

    port: ClassVar[int]
    table: ClassVar[str]
    checksum: ClassVar[str]
    # What its client raises when it is refused, cut off or sent away; and when the server takes no writes.
    failures: ClassVar[tuple[type[Exception], ...]]
    refusal: ClassVar[type[Exception]]
    # Whether an old source comes back by undoing what it did alone; else it has to be made anew.
    rewinds = False

    def __init__(self, kind: Kind, **options: str) -> None:
        self.kind, self.options = kind, options

    @property
    def aligns(self) -> bool:
        """Whether replicas that left their source at different places can follow the same one."""
        return True

    @abc.abstractmethod
    def connect(self, server: Server, password: str) -> Any:
        """A connection over the network, which commits each statement."""

    @abc.abstractmethod
    def administrate(self, server: Server, sql: str) -> str:
        """A statement of the administrator's, from inside the guest."""

    @abc.abstractmethod
    def stop_receiving(self, replica: Server) -> None:
        """The replica falls behind."""

    def receive_again(self, replica: Server) -> None:
        """Takes `stop_receiving` back, when the source is gone."""

    @abc.abstractmethod
    def accounts(self, server: Server) -> int:
        """How many accounts for replicas there are."""

    @abc.abstractmethod
    def identity(self, server: Server) -> str:
        """What an instance that went its own way does not share with its former source."""

    def query(self, server: Server, password: str, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """One statement over a connection of its own."""
        connection = self.connect(server, password)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()


class MySql(Engine):
    """MySQL and MariaDB."""

    port = 3306
    table = "CREATE TABLE t (id BIGINT PRIMARY KEY, word VARCHAR(80) NOT NULL) ENGINE=InnoDB"
    checksum = "SELECT COUNT(*), COALESCE(SUM(CRC32(CONCAT(id, '|', word))), 0) FROM t"
    failures = (pymysql.err.Error, OSError)
    refusal = pymysql.err.OperationalError

    @property
    def aligns(self) -> bool:
        # Without GTIDs nobody can tell what the one that is behind lacks.
        return self.options.get("replication_strategy") != BINLOG

    def connect(self, server: Server, password: str) -> Any:
        return pymysql.connect(
            host=server.guest.address, user="owner", password=password, database="first", autocommit=True,
            connect_timeout=CLIENT_SECONDS, read_timeout=CLIENT_SECONDS, write_timeout=CLIENT_SECONDS,
        )

    def administrate(self, server: Server, sql: str) -> str:
        program = "mariadb" if self.kind is MARIADB else "mysql"
        return server.guest.run([program, "--defaults-file=/var/lib/trove-guestagent/os_admin.cnf", "-NBe", sql, "first"])

    def stop_receiving(self, replica: Server) -> None:
        self.administrate(replica, f"STOP {'SLAVE' if self.kind is MARIADB else 'REPLICA'} IO_THREAD")

    def accounts(self, server: Server) -> int:
        return int(self.administrate(server, "SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'slave\\_%'"))

    def identity(self, server: Server) -> str:
        return self.administrate(server, "SELECT @@server_id")


class PostgreSql(Engine):
    """PostgreSQL."""

    port = 5432
    table = "CREATE TABLE t (id BIGINT PRIMARY KEY, word VARCHAR(80) NOT NULL)"
    checksum = "SELECT COUNT(*), MD5(STRING_AGG(id || '|' || word, ',' ORDER BY id)) FROM t"
    failures = (psycopg2.Error,)
    refusal = psycopg2.errors.ReadOnlySqlTransaction
    rewinds = True

    def connect(self, server: Server, password: str) -> Any:
        connection = psycopg2.connect(
            host=server.guest.address, user="owner", password=password, dbname="first", connect_timeout=CLIENT_SECONDS,
            tcp_user_timeout=1000 * CLIENT_SECONDS, keepalives_idle=1, keepalives_interval=1, keepalives_count=CLIENT_SECONDS,
        )
        connection.autocommit = True
        return connection

    def administrate(self, server: Server, sql: str) -> str:
        # As the account `postgres` of the guest, which the server takes at its word.
        return server.guest.run(["runuser", "-u", "postgres", "--", "psql", "--no-psqlrc", "-XAtqc", sql, "first"])

    def stop_receiving(self, replica: Server) -> None:
        # A reload is enough for its receiver to ask for this one, which the source does not have.
        self.administrate(replica, "ALTER SYSTEM SET primary_slot_name = 'no_such_slot'")
        self.administrate(replica, "SELECT pg_reload_conf()")
        receiving = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND slot_name <> 'no_such_slot'"
        wait_until(f"{replica.guest.name} to receive no more", lambda: self.administrate(replica, receiving).strip() == "0", RELOAD_SECONDS)

    def receive_again(self, replica: Server) -> None:
        self.administrate(replica, "ALTER SYSTEM RESET primary_slot_name")
        self.administrate(replica, "SELECT pg_reload_conf()")

    def accounts(self, server: Server) -> int:
        return int(self.administrate(server, "SELECT count(*) FROM pg_roles WHERE rolreplication AND NOT rolsuper"))

    def identity(self, server: Server) -> str:
        return self.administrate(server, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")


MYSQL_BY_GTID, MARIADB_BY_GTID = MySql(MYSQL), MySql(MARIADB)
MYSQL_BY_PLACE = MySql(MYSQL, replication_strategy=BINLOG)
POSTGRESQL_STREAMING = PostgreSql(POSTGRESQL)
