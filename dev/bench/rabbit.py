"""A private RabbitMQ node: own name, own ports, own epmd, own data, run as the `rabbitmq` user.

Of this machine's own release, or of the release that a base root has.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path

from . import enter_root
from .certificates import Authority
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

# Nobody without a certificate of the run's authority gets in.
TLS_CONFIGURATION = """\
listeners.tcp = none
ssl_options.cacertfile = {ca}
ssl_options.certfile = {cert}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
"""


class Rabbit:
    """`start` returns once the broker answers an AMQP handshake. `root` is a base root with another release in it. With `tls` it speaks
    nothing else, and demands a certificate of its clients."""

    def __init__(
        self, session: Session, hosts: tuple[str, ...] = ("127.0.0.1",), root: Path | None = None, tls: bool = False
    ) -> None:
        self.hosts = hosts
        self._root = root
        self.user = "trove"
        self.password = secrets.token_hex(12)
        self.port = free_port("0.0.0.0")
        self._session = session
        self._name = session.unique("rmq")
        self._directory = session.subdirectory(self._name)
        self._epmd_port = free_port()
        self._dist_port = free_port()
        self._epmd: Child | None = None
        self._broker: Child | None = None
        # Files the clients need, by the name of oslo's option.
        self.client_files: dict[str, Path] = {}
        self._write_files(tls)
        session.defer(self.close)

    def url(self, host: str | None = None, scheme: str = "rabbit") -> str:
        """oslo's `transport_url`; with the scheme `amqp` the same as AMQP clients want it."""
        path = "%2F" if scheme == "amqp" else ""
        query = "".join(f"&{option}={file}" for option, file in self.client_files.items())
        tls = f"?ssl=true{query}" if query else ""
        return f"{scheme}://{self.user}:{self.password}@{host or self.hosts[0]}:{self.port}/{path}{tls}"

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
        return enter_root.command_line(str(self._root), str(self._directory), *argv)

    def _start_epmd(self) -> None:
        if self._epmd is not None and self._epmd.alive():
            return
        # Without one of its own, Erlang would leave a daemon behind that no run owns.
        argv = self._argv("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1", "-relaxed_command_check")
        self._epmd = Child("epmd", argv, self._directory / "epmd.log", self._environment(), self._directory)
        epmd = self._epmd
        wait_until("epmd", lambda: tcp_open("127.0.0.1", self._epmd_port), 20, epmd.tail, epmd.check_alive)

    def _answers(self) -> bool:
        return all(_speaks_amqp(host, self.port, self._client_context()) for host in self.hosts)

    def _client_context(self) -> ssl.SSLContext | None:
        if not self.client_files:
            return None
        context = ssl.create_default_context(cafile=self.client_files["ssl_ca_file"])
        context.load_cert_chain(self.client_files["ssl_cert_file"], self.client_files["ssl_key_file"])
        return context

    def _write_files(self, tls: bool) -> None:
        kind = "ssl" if tls else "tcp"
        listeners = "\n".join(f"listeners.{kind}.{n} = {host}:{self.port}" for n, host in enumerate(self.hosts, 1))
        if tls:
            listeners = f"{self._write_certificates()}{listeners}"
        text = CONFIGURATION.format(listeners=listeners, user=self.user, password=self.password)
        (self._directory / "rabbitmq.conf").write_text(text)
        (self._directory / "enabled_plugins").write_text("[].\n")
        cookie = self._directory / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        user, group = self._owner()
        for path in (self._directory, *self._directory.iterdir()):
            shutil.chown(path, user, group)

    def _write_certificates(self) -> str:
        """The broker's and the clients'; the lines of rabbitmq.conf."""
        authority = Authority(self._directory)
        cert, key = authority.issue("broker", self.hosts)
        client_cert, client_key = authority.issue("client")
        # Clients in guests have them at the same paths. Not below /var/tmp: the agent's unit has one of its own.
        directory = Path(tempfile.mkdtemp(prefix="trove-bench-", dir="/var/lib"))
        self._session.defer(lambda: shutil.rmtree(directory, ignore_errors=True))
        files = {"ssl_ca_file": authority.file, "ssl_cert_file": client_cert, "ssl_key_file": client_key}
        self.client_files = {option: Path(shutil.copy(file, directory)) for option, file in files.items()}
        inside = Path(self._inside())
        return TLS_CONFIGURATION.format(ca=inside / authority.file.name, cert=inside / cert.name, key=inside / key.name)

    def _inside(self) -> str:
        """The node's directory as the node sees it."""
        return enter_root.INSIDE if self._root else str(self._directory)

    def _owner(self) -> tuple[int, int]:
        """User and group `rabbitmq`, whose numbers differ from root to root."""
        accounts = ((self._root or Path("/")) / "etc/passwd").read_text().splitlines()
        fields = next(line.split(":") for line in accounts if line.startswith("rabbitmq:"))
        return int(fields[2]), int(fields[3])

    def _environment(self) -> dict[str, str]:
        directory = self._inside()
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


def _speaks_amqp(host: str, port: int, tls: ssl.SSLContext | None) -> bool:
    """Whether the protocol header is answered with a method frame (type 1) and not only accepted."""
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((host, port), timeout=2))
            connection.settimeout(5)
            if tls is not None:
                connection = stack.enter_context(tls.wrap_socket(connection, server_hostname=host))
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False
