"""A whole deployment: broker, controller, and guests on the bridge."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pymysql

from . import packages
from .controller import Controller, Instance
from .guest import Guest, GuestSpec
from .network import join_bridge
from .rabbit import Rabbit
from .session import Session
from .waiting import wait_until

# Generous: two cores run the database, the controller and the other tests.
PREPARE_SECONDS = 180.0


@dataclass(frozen=True)
class Kind:
    """A datastore as the operator registers it, and the base root that has it."""

    root: str
    manager: str
    version: str
    unit: str
    packages: str
    # Packages that it needs, or may be given, besides those of its root.
    source: packages.Source | None = None
    # Where its data are, when that is not where Trove's controller would have them.
    mount_point: str | None = None


MARIADB = Kind("mariadb-10.11", "mariadb", "10.11", "mariadb.service", "mariadb-server")
MYSQL = Kind("mysql-9.7", "mysql", "9.7", "mysql.service", "mysql-server")
POSTGRESQL = Kind("postgresql-15", "postgresql", "15", "postgresql@15-main.service", "postgresql-15")
POSTGRESQL_17 = Kind("postgresql-17", "postgresql", "17", "postgresql@17-main.service", "postgresql-17")
REDIS = Kind("redis-7", "redis", "7.0", "redis-server.service", "redis-server")
# Debian has no Percona Server; its manager is driven against the server it descends from.
PERCONA_ON_MYSQL = Kind("mysql-9.7", "percona", "9.7", "mysql.service", "mysql-server")


@dataclass
class Server:
    """A guest, the instance it serves, and the secrets planted in it."""

    kind: Kind
    guest: Guest
    instance: Instance
    # Secrets handed to the guest in any way; none may be found in its logs.
    secrets: list[str] = field(default_factory=list)
    # Password of the user that `prepare` makes, where a test has one made.
    owner_password: str = ""

    def secret(self) -> str:
        """A new password, remembered as planted."""
        value = f"Pw1-{secrets.token_hex(12)}"
        self.secrets.append(value)
        return value

    def prepare(self, databases: list[dict[str, str]], users: list[dict[str, object]], **options: object) -> None:
        """Sends `prepare` and waits until the controller calls the instance healthy."""
        if self.kind.mount_point:
            options["mount_point"] = self.kind.mount_point
        self.instance.prepare(databases, users, **options)
        self.wait_active(PREPARE_SECONDS)

    def wait_active(self, timeout: float = 90.0) -> None:
        self.instance.wait_status("healthy", timeout, self.guest.agent_log)

    def connect(self, user: str, password: str, database: str | None = None) -> pymysql.Connection:
        """Logs in from the host, over TCP."""
        # As bytes: PyMySQL would encode text as Latin-1, which is not what any server compares with.
        return pymysql.connect(
            host=self.guest.address, user=user, password=password.encode(), database=database, connect_timeout=10, autocommit=True
        )

    def query(self, user: str, password: str, sql: str, *parameters: object, database: str | None = None) -> list[tuple[object, ...]]:
        """One statement over a connection of its own."""
        connection = self.connect(user, password, database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def can_log_in(self, user: str, password: str) -> bool:
        try:
            self.connect(user, password).close()
        except pymysql.err.OperationalError as error:
            if error.args[0] in ACCESS_DENIED:
                return False
            raise
        return True


# ER_ACCESS_DENIED_ERROR, ER_HOST_NOT_PRIVILEGED, ER_ACCESS_DENIED_NO_PASSWORD_ERROR, ER_MUST_CHANGE_PASSWORD_LOGIN.
ACCESS_DENIED = (1045, 1130, 1698, 1862)


class Deployment:
    """One broker and one controller; `launch` boots guests."""

    def __init__(self, session: Session, tls: bool = False, rabbit_root: Path | None = None) -> None:
        self.session = session
        self.host = join_bridge(session)
        self.rabbit = Rabbit(session, ("127.0.0.1", self.host), rabbit_root, tls)
        self.controller = Controller(session, self.rabbit, self.host)
        # Every server placed so far, for whoever looks through all their logs.
        self.servers: list[Server] = []

    def start(self) -> Deployment:
        self.rabbit.start()
        self.controller.start()
        return self

    def place(
        self,
        kind: Kind,
        secure: bool = True,
        init: bool = True,
        guest_options: Mapping[str, str] | None = None,
        disk_mb: int | None = None,
        package: Path | None = None,
        guest_type: type[Guest] = Guest,
    ) -> Server:
        """A guest with its injected files, not booted yet."""
        options = dict(guest_options or {})
        if not init:
            options.setdefault("service_control", "process")
        instance = self.controller.create_instance(
            kind.manager, kind.version, secure=secure, packages=kind.packages, guest_options=options
        )
        guest = guest_type(self.session, GuestSpec(kind.root, init=init, disk_mb=disk_mb, package=package))
        if kind.source:
            guest.container.binds.append(f"{packages.ensure(self.session, kind.source)}:{packages.PATH}")
            guest.disk.write("/etc/apt/sources.list", packages.LINE)
            # What a power cut does to packages is not of interest.
            guest.disk.write("/etc/dpkg/dpkg.cfg.d/fast", "force-unsafe-io\n")
        planted = [self.controller.auth_token, self.controller.service_password, self.rabbit.password]
        planted += [instance.key] if instance.key else []
        server = Server(kind, guest, instance, planted)
        self._inject(server)
        self.servers.append(server)
        return server

    def launch(
        self,
        kind: Kind,
        secure: bool = True,
        init: bool = True,
        guest_options: Mapping[str, str] | None = None,
        disk_mb: int | None = None,
    ) -> Server:
        """A booted guest whose agent consumes its queue."""
        server = self.place(kind, secure, init, guest_options, disk_mb)
        server.guest.boot()
        self.wait_consumed(server)
        return server

    def rebuild(self, server: Server, root: str) -> None:
        """The guest on a new root disk, with the files that Trove injects, until its agent consumes."""
        server.guest.rebuild(root)
        self._inject(server)
        server.guest.boot()
        self.wait_consumed(server)

    def _inject(self, server: Server) -> None:
        server.guest.inject(server.instance.files)
        # At the paths they have here, which transport_url names.
        server.guest.inject({str(path): path.read_text() for path in self.rabbit.client_files.values()})

    def wait_consumed(self, server: Server, timeout: float = 60.0) -> None:
        queue = f"guestagent.{server.instance.id}"
        wait_until(f"{queue} to be consumed", lambda: self.consumers(queue) > 0, timeout, server.guest.agent_log)

    def consumers(self, queue: str) -> int:
        """How many consumers the broker sees on a queue; 0 when the queue is not there."""
        rows = (line.split("\t") for line in self.rabbit.ctl("-q", "list_queues", "name", "consumers").splitlines())
        return next((int(row[1]) for row in rows if row[0] == queue), 0)
