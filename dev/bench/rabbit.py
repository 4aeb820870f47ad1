"""A private RabbitMQ node: own name, own ports, own epmd, own data, run as the `rabbitmq` user.

Of this machine's own release, or of the release that a base root has.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from . import enter_root
from .child import Child, as_user
from .session import Session
from .waiting import free_port, tcp_open, wait_until

BINARIES = Path("/usr/lib/rabbitmq/bin")
# A cold Erlang VM on two busy cores takes its time.
START_SECONDS = 120.0

CONFIGURATION = """\
{listeners}
default_user = {user}
default_pass = {password}
default_vhost = /
loopback_users = none
log.console = true
log.console.level = info
log.file = false
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
"""


class Rabbit:
    """`start` returns once the broker answers an AMQP handshake. `root` is a base root with another release in it; `lines` go into
    rabbitmq.conf."""

    def __init__(
        self, session: Session, hosts: tuple[str, ...] = ("127.0.0.1",), root: Path | None = None, lines: str = ""
    ) -> None:
        self.hosts = hosts
        self._root = root
        self._lines = lines
        self.user = "trove"
        self.password = secrets.token_hex(12)
        self.port = free_port("0.0.0.0")
        self._name = session.unique("rmq")
        self._directory = session.subdirectory(self._name)
        self._epmd_port = free_port()
        self._dist_port = free_port()
        self._epmd: Child | None = None
        self._broker: Child | None = None
        self._write_files()
        session.defer(self.close)

    def url(self, host: str | None = None, scheme: str = "rabbit") -> str:
        """oslo's `transport_url`; with the scheme `amqp` the same as AMQP clients want it."""
        path = "%2F" if scheme == "amqp" else ""
        return f"{scheme}://{self.user}:{self.password}@{host or self.hosts[0]}:{self.port}/{path}"

    @property
    def running(self) -> bool:
        return self._broker is not None and self._broker.alive()

    def start(self) -> Rabbit:
        self._start_epmd()
        argv = self._argv(str(BINARIES / "rabbitmq-server"))
        self._broker = Child(f"RabbitMQ {self._name}", argv, self._directory / "broker.log", self._environment(), self._directory)
        broker = self._broker
        wait_until(f"RabbitMQ on port {self.port}", self._answers, START_SECONDS, broker.tail, broker.check_alive)
        return self

    def kill(self) -> None:
        """The broker dies at once, as with a power cut; its durable data stays."""
        if self._broker is not None:
            self._broker.kill()
            self._broker = None

    def stop(self) -> None:
        """An orderly end."""
        if self._broker is not None:
            self._broker.stop(grace=30)
            self._broker = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd = None

    def ctl(self, *arguments: str) -> str:
        """`rabbitmqctl` against this node."""
        argv = self._argv(str(BINARIES / "rabbitmqctl"), *arguments)
        done = subprocess.run(
            argv, env=self._environment(), cwd=self._directory, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            raise AssertionError(f"rabbitmqctl {arguments[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def add_vhost(self, name: str) -> None:
        self.ctl("add_vhost", name)
        self.ctl("set_permissions", "-p", name, self.user, ".*", ".*", ".*")

    def _argv(self, *command: str) -> list[str]:
        """The command line that runs a program of the node's release as the node's user."""
        argv = [*as_user("rabbitmq"), *command]
        if self._root is None:
            return argv
        script = str(Path(enter_root.__file__))
        return ["unshare", "--mount", "--", sys.executable, script, str(self._root), str(self._directory), *argv]

    def _start_epmd(self) -> None:
        if self._epmd is not None and self._epmd.alive():
            return
        # Without one of its own, Erlang would leave a daemon behind that no run owns.
        argv = self._argv("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1", "-relaxed_command_check")
        self._epmd = Child("epmd", argv, self._directory / "epmd.log", self._environment(), self._directory)
        epmd = self._epmd
        wait_until("epmd", lambda: tcp_open("127.0.0.1", self._epmd_port), 20, epmd.tail, epmd.check_alive)

    def _answers(self) -> bool:
        return all(_speaks_amqp(host, self.port) for host in self.hosts)

    def _write_files(self) -> None:
        listeners = "\n".join(f"listeners.tcp.{n} = {host}:{self.port}" for n, host in enumerate(self.hosts, 1))
        text = CONFIGURATION.format(listeners=listeners, user=self.user, password=self.password)
        (self._directory / "rabbitmq.conf").write_text(text + self._lines)
        (self._directory / "enabled_plugins").write_text("[].\n")
        cookie = self._directory / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        user, group = self._owner()
        for path in (self._directory, *self._directory.iterdir()):
            shutil.chown(path, user, group)

    def _owner(self) -> tuple[int, int]:
        """User and group `rabbitmq`, whose numbers differ from root to root."""
        accounts = ((self._root or Path("/")) / "etc/passwd").read_text().splitlines()
        fields = next(line.split(":") for line in accounts if line.startswith("rabbitmq:"))
        return int(fields[2]), int(fields[3])

    def _environment(self) -> dict[str, str]:
        directory = enter_root.INSIDE if self._root else str(self._directory)
        return {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": directory,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # An address needs no name to be looked up, which a base root could not.
            "RABBITMQ_NODENAME": f"{self._name}@127.0.0.1",
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CTL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": f"{directory}/absent-env.conf",
            "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{directory}/absent-advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{directory}/mnesia",
            "RABBITMQ_LOG_BASE": f"{directory}/log",
            "RABBITMQ_PID_FILE": f"{directory}/broker.pid",
        }


def _speaks_amqp(host: str, port: int) -> bool:
    """Whether the protocol header is answered with a method frame (type 1) and not only accepted."""
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.settimeout(5)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False
