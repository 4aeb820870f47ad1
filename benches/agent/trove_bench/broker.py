"""A private RabbitMQ node on loopback: free ports, its own data, its own epmd, ended by process id."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from .errors import BenchError

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # /usr/sbin's wrapper would change to the system's node and logs.
USER = "rabbitmq"
START_SECONDS = 90
STOP_SECONDS = 30
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"


class Broker:
    """A node that lives as long as the `with` block."""

    def __init__(self) -> None:
        self.port, self._dist_port, self._epmd_port = _free_ports(3)
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix="trove-bench-broker-"))
        self._output = None
        self._processes: list[subprocess.Popen] = []

    @property
    def transport_url(self) -> str:
        """As oslo.messaging spells it."""
        return f"rabbit://guest:guest@127.0.0.1:{self.port}/"

    @property
    def amqp_uri(self) -> str:
        """As the AMQP URI specification spells it: the virtual host `/` is written %2f."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2f"

    def __enter__(self) -> "Broker":
        if not os.path.exists(SERVER):
            raise BenchError(f"{SERVER} is missing: install rabbitmq-server")
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception) -> None:
        for process in reversed(self._processes):
            _end(process)
        self._processes.clear()
        if self._output:
            self._output.close()
        shutil.rmtree(self._directory)

    def _start(self) -> None:
        self._output = (self._directory / "output.log").open("wb")
        for name in ("mnesia", "log", "home"):
            (self._directory / name).mkdir()
        (self._directory / "enabled_plugins").write_text("[].\n")
        (self._directory / "rabbitmq.conf").write_text("log.file.level = warning\n")
        if os.geteuid() == 0:
            account = pwd.getpwnam(USER)
            for path in (self._directory, *self._directory.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        # RabbitMQ would start a shared epmd that outlives it. One of our own ends with the node.
        self._spawn(["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)])
        self._spawn([SERVER])
        self._await_ready(time.monotonic() + START_SECONDS)

    def _spawn(self, command: list[str]) -> None:
        identity = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
        process = subprocess.Popen(command, env=self._environment(), cwd=self._directory, stdin=subprocess.DEVNULL,
                                   stdout=self._output, stderr=subprocess.STDOUT, start_new_session=True, **identity)
        self._processes.append(process)

    def _environment(self) -> dict[str, str]:
        directory = self._directory
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(directory / "home"),  # The Erlang cookie is made there.
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"bench{os.getpid()}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "absent"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_PID_FILE": str(directory / "node.pid"),
        }

    def _await_ready(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in self._processes):
                break
            if self._greets():
                return
            time.sleep(0.1)
        output = (self._directory / "output.log").read_text(errors="replace")
        raise BenchError(f"RabbitMQ did not come up within {START_SECONDS} s:\n{output[-4000:]}")

    def _greets(self) -> bool:
        """Whether the listener answers the protocol header with a method frame (connection.start)."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(PROTOCOL_HEADER)
                return connection.recv(1) == METHOD_FRAME
        except OSError:
            return False


def _end(process: subprocess.Popen) -> None:
    """Ends a process and the group it leads."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]
    finally:
        for free in sockets:
            free.close()
