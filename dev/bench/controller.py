"""The real controller of Trove 2026.1: its conductor, its database, its guest API."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .child import Child
from .command import run
from .rabbit import Rabbit
from .session import Session
from .waiting import wait_until
from .worker import GuestCallFailed as GuestCallFailed  # What `Instance.call` raises.
from .worker import Worker

WORKER = Path(__file__).with_name("controller_worker.py")
MEMORY_MB = 512

TROVE_CONF = """\
[DEFAULT]
transport_url = {url}
control_exchange = trove
inst_rpc_key_encr_key = {key_key}
taskmanager_rpc_encr_key = {key_key}
enable_secure_rpc_messaging = True
trove_conductor_workers = 1
guest_config = {guest_config}
log_dir = {logs}
debug = True
bind_host = 127.0.0.1

[database]
# The conductor and the API's side write at the same time: each waits for the other, however slow the machine.
connection = sqlite:///{database}?timeout=60

[oslo_messaging_notifications]
driver = log
"""

GUEST_CONF = """\
[DEFAULT]
transport_url = {url}
control_exchange = trove
command_process_timeout = 60
root_grant = ALL
root_grant_option = True
report_interval = {report_interval}
debug = True
{extra}
[service_credentials]
auth_url = http://192.0.2.1/identity/v3
region_name = RegionOne
project_name = service
password = {service_password}
project_domain_name = Default
user_domain_name = Default
username = trove
"""


@dataclass
class Instance:
    """An instance as the controller knows it; `files` are what it injects at boot."""

    controller: Controller
    id: str
    key: str | None
    manager: str
    files: Mapping[str, str] = field(repr=False)

    def prepare(
        self, databases: Sequence[Any] = (), users: Sequence[Any] = (), memory_mb: int = MEMORY_MB, **options: Any
    ) -> None:
        """The cast that turns a booted server into a database instance.

        Databases and users are as the REST API takes them, or in wire form (`_name`), which goes out unchecked.
        `options` replace arguments of `API.prepare`.
        """
        asked = {"databases": list(databases), "users": list(users), "memory_mb": memory_mb, "options": options}
        self.controller.ask("prepare", instance_id=self.id, **asked)

    def call(self, method: str, **arguments: Any) -> Any:
        """A method of the real guest API."""
        return self.controller.ask("call", instance_id=self.id, method=method, arguments=arguments)

    def cast(self, method: str, event: str, **arguments: Any) -> None:
        """A method of the real guest API, with the notification that the REST API sends along."""
        self.controller.ask("call", instance_id=self.id, method=method, arguments=arguments, event=event)

    def restart(self) -> None:
        """As the REST API does it: the conductor drops heartbeats of an instance that it knows to be RESTART_REQUIRED, until then."""
        self.controller.ask("restart", instance_id=self.id)

    def status(self) -> str:
        """`service_statuses.status_description`: what the last accepted heartbeat said."""
        return self.controller.status(self.id)[0]

    def heartbeat_time(self) -> str:
        """When the conductor last wrote the status; changes with each heartbeat."""
        return self.controller.status(self.id)[1]

    def wait_status(self, wanted: str, timeout: float, guest_log: Any = None) -> None:
        """Waits for a status; a `failed to spawn` that was not asked for ends the wait at once."""

        def look() -> bool:
            status = self.status()
            if status == "failed to spawn" != wanted:
                raise AssertionError(f"{self.id} failed to spawn:\n{guest_log() if guest_log else ''}\n{self.fault()}")
            return status == wanted

        wait_until(f"status {wanted!r} of {self.id}", look, timeout, guest_log)

    def wait_heartbeat(self, timeout: float = 60.0) -> None:
        """Waits for one more heartbeat than there has been."""
        before = self.heartbeat_time()
        wait_until(f"a heartbeat of {self.id}", lambda: self.heartbeat_time() != before, timeout)

    def fault(self) -> Fault | None:
        """What the user is shown as the instance's fault: the controller keeps the newest one."""
        sql = "SELECT message, details, updated FROM instance_faults WHERE instance_id = ?"
        rows = self.controller.query(sql, self.id)
        return Fault(*rows[0]) if rows else None


@dataclass(frozen=True)
class Fault:
    """A row of `instance_faults`."""

    message: str
    details: str
    updated: str


class Controller:
    """`start` makes the database, then runs the conductor and the API worker."""

    def __init__(self, session: Session, rabbit: Rabbit, guest_host: str) -> None:
        self._rabbit = rabbit
        self._directory = session.subdirectory(session.unique("controller"))
        self._database = self._directory / "trove.sqlite"
        self._configuration = self._directory / "trove.conf"
        self.guest_host = guest_host
        # Planted: none of these may ever be seen in a log of the guest.
        self.auth_token = f"token-{secrets.token_hex(16)}"
        self.service_password = f"service-{secrets.token_hex(16)}"
        self._conductor: Child | None = None
        self._worker: Worker | None = None
        self._session = session
        self.report_interval = 2

    def start(self) -> Controller:
        self._write_configuration()
        python = Path(sys.executable)
        option = f"--config-file={self._configuration}"
        run([str(python.with_name("trove-manage")), option, "db_sync"], timeout=120)
        with contextlib.closing(sqlite3.connect(self._database)) as database:
            database.execute("PRAGMA journal_mode=WAL")
        self._start_conductor()
        self._worker = self.worker("controller", python, WORKER)
        return self

    def rotate_key(self, instance: Instance) -> str:
        """A new key for the instance's messages: written to the database while the conductor, which remembers keys, is stopped."""
        if self._conductor is not None:
            self._conductor.stop()
        key = self.ask("rotate_key", instance_id=instance.id)
        self._start_conductor()
        return key

    def _start_conductor(self) -> None:
        argv = [str(Path(sys.executable).with_name("trove-conductor")), f"--config-file={self._configuration}"]
        self._conductor = Child("trove-conductor", argv, self._directory / "conductor.out")
        self._session.defer(self._conductor.stop)

    def create_instance(
        self,
        manager: str,
        version: str,
        secure: bool = True,
        datastore: str | None = None,
        packages: str = "",
        guest_options: Mapping[str, str] | None = None,
    ) -> Instance:
        """A new instance; `guest_options` are added to `[DEFAULT]` of its trove-guestagent.conf."""
        self.write_guest_config(guest_options)
        answer = self.ask(
            "create_instance",
            manager=manager,
            version=version,
            datastore=datastore or manager,
            name=f"bench-{manager}",
            volume_gb=1,
            secure=secure,
            packages=packages,
        )
        return Instance(self, answer["id"], answer["key"], manager, answer["files"])

    def ask(self, operation: str, **arguments: Any) -> Any:
        """One request to the worker."""
        if self._worker is None:
            raise AssertionError("the controller is not started")
        return self._worker.ask(operation, **arguments)

    def direct(self, operation: str, answer: Callable[[str, dict[str, Any]], Any], **arguments: Any) -> Any:
        """One request to the worker that asks back (`Worker.direct`)."""
        if self._worker is None:
            raise AssertionError("the controller is not started")
        return self._worker.direct(operation, answer, **arguments)

    def worker(self, name: str, python: Path, script: Path) -> Worker:
        """A worker over this controller's broker and database, with the Trove of `python`."""
        return Worker(self._session, name, [str(python), str(script)], self.auth_token, self._configuration, self._directory)

    def render_template(self, instance: Instance, memory_mb: int = MEMORY_MB) -> str:
        return self.ask("render_template", instance_id=instance.id, memory_mb=memory_mb)

    def status(self, instance_id: str) -> tuple[str, str]:
        rows = self.query("SELECT status_description, updated_at FROM service_statuses WHERE instance_id = ?", instance_id)
        return rows[0] if rows else ("", "")

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Reads the controller's database."""
        connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=20)
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    def conductor_log(self) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self._directory.glob("*conductor*")))

    def write_guest_config(self, options: Mapping[str, str] | None = None) -> None:
        """The controller's `guest_config`, copied verbatim into each guest."""
        extra = "".join(f"{key} = {value}\n" for key, value in (options or {}).items() if key != "transport_url")
        url = (options or {}).get("transport_url") or self._rabbit.url(self.guest_host)
        text = GUEST_CONF.format(
            url=url, report_interval=self.report_interval, extra=extra, service_password=self.service_password
        )
        (self._directory / "trove-guestagent.conf").write_text(text)

    def _write_configuration(self) -> None:
        self._configuration.write_text(
            TROVE_CONF.format(
                url=self._rabbit.url("127.0.0.1"),
                key_key=secrets.token_hex(16),
                guest_config=self._directory / "trove-guestagent.conf",
                logs=self._directory,
                database=self._database,
            )
        )
        self.write_guest_config()
