"""`service_control = docker`: the agent on this machine, its database in a container, as a developer runs them."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pytest
from bench.child import Child, kill_pid
from bench.command import run, run_full
from bench.controller import GuestCallFailed, Instance
from bench.deployment import MARIADB, Deployment
from bench.guest import agent_binary
from bench.oslo_peer import OsloPeer
from bench.roots import CACHE, base_root
from bench.session import Session
from bench.waiting import free_port, wait_until

# Creating a container, filling a data directory and starting a server on two busy cores.
PREPARE_SECONDS = 180.0
LABEL = "org.openstack.trove.guestagent.command"

CONFIGURATION = """\
[DEFAULT]
service_control = docker
state_dir = {directory}/state
[mariadb]
service_name = {container}
docker_image = {image}
config_dir = {directory}/conf
socket = {directory}/run/mysqld.sock
mount_point = {directory}/volume
"""


class Engine:
    """A docker daemon of the test's own. Images stay in the cache between runs; one run has it at a time."""

    def __init__(self, session: Session) -> None:
        data = CACHE / "docker"
        data.mkdir(parents=True, exist_ok=True)
        self._lock = (data / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        session.defer(self._lock.close)
        self._directory = session.subdirectory(session.unique("docker"))
        self.host = f"unix://{self._directory}/docker.sock"
        self._containers: list[str] = []
        argv = ["dockerd", "--data-root", str(data / "root"), "--exec-root", str(self._directory / "exec")]
        argv += ["--pidfile", str(self._directory / "pid"), "--host", self.host, "--log-level=warn"]
        # Nobody's firewall or bridges are touched: the containers use the machine's network.
        argv += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        self._daemon = Child("dockerd", argv, self._directory / "dockerd.log")
        session.defer(self._stop)
        wait_until("the engine", self._answers, 60, self._daemon.tail, self._daemon.check_alive)

    def docker(self, *arguments: str, timeout: float = 120.0) -> str:
        return run(["docker", "--host", self.host, *arguments], timeout).strip()

    def inspect(self, container: str) -> dict[str, Any]:
        return json.loads(self.docker("container", "inspect", container))[0]

    def pid(self, container: str) -> int:
        return self.inspect(container)["State"]["Pid"]

    def image(self) -> str:
        """The base root as an image, imported once for each recipe of the root."""
        root = base_root(MARIADB.root)
        name = f"trove-dev-mariadb:{root.name.rpartition('-')[2]}"
        if run_full(["docker", "--host", self.host, "image", "inspect", name], check=False).returncode != 0:
            with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
                command = ["docker", "--host", self.host, "import", "-", name]
                subprocess.run(command, stdin=tar.stdout, stdout=subprocess.DEVNULL, timeout=300, check=True)
            assert tar.returncode == 0, "tar failed"
        return name

    def name(self, name: str) -> str:
        """A name for a container that is removed at the end."""
        self._containers.append(name)
        return name

    def _answers(self) -> bool:
        return run_full(["docker", "--host", self.host, "version"], check=False).returncode == 0

    def _stop(self) -> None:
        for name in self._containers:
            run_full(["docker", "--host", self.host, "rm", "--force", "--volumes", name], check=False)
        self._daemon.stop(grace=60)
        # The host's network namespace, which the engine leaves mounted.
        run_full(["umount", str(self._directory / "exec/netns/default")], check=False)


@dataclass
class Developer:
    """A machine with an agent and the database of its instance in a container."""

    session: Session
    deployment: Deployment
    engine: Engine
    container: str
    directory: Path
    instance: Instance
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: f"Pw1-{secrets.token_hex(12)}")
    agent: Child | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "run/mysqld.sock"

    def log(self) -> str:
        return (self.directory / "agent.log").read_text(errors="replace")

    def start_agent(self) -> None:
        argv = [str(agent_binary()), "--config-dir", str(self.directory / "conf.d")]
        environment = dict(os.environ, DOCKER_HOST=self.engine.host)
        self.agent = Child("agent", argv, self.directory / "agent.log", environment)
        self.session.defer(self.agent.stop)
        queue = f"guestagent.{self.instance.id}"
        wait_until(f"{queue} to be consumed", lambda: self.deployment.consumers(queue) > 0, 30, self.log, self.agent.check_alive)

    def prepare(self) -> None:
        self.instance.prepare(
            [{"name": "shop"}],
            [{"name": "ann", "password": self.password, "host": "%", "databases": [{"name": "shop"}]}],
            device_path=None,
            mount_point=str(self.directory / "volume"),
            overrides=self.address,
        )

    @property
    def address(self) -> dict[str, Any]:
        """Where the server listens, as values of a configuration group."""
        return {"port": self.port, "bind_address": "127.0.0.1"}

    def wait(self, status: str, timeout: float = 60.0) -> None:
        self.instance.wait_status(status, timeout, self.log)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """As the user, over TCP."""
        settings = {"host": "127.0.0.1", "port": self.port, "user": "ann", "password": self.password, "database": "shop"}
        with pymysql.connect(**settings, autocommit=True, connect_timeout=10) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())


def developer(session: Session, deployment: Deployment, engine: Engine, image: str = "") -> Developer:
    """Directories and configuration of a developer's machine; neither agent nor container yet."""
    name = session.unique("dev")
    directory = session.subdirectory(name)
    container = engine.name(name)
    instance = deployment.controller.create_instance("mariadb", MARIADB.version, packages=MARIADB.packages)
    for part in ("conf.d", "conf", "run", "volume"):
        (directory / part).mkdir()
    (directory / "conf.d").chmod(0o700)
    for path, text in instance.files.items():
        (directory / "conf.d" / Path(path).name).write_text(text)
    text = CONFIGURATION.format(directory=directory, container=container, image=image)
    # Read last: it wins.
    (directory / "conf.d/zz-docker.conf").write_text(text)
    return Developer(session, deployment, engine, container, directory, instance)


@pytest.fixture(scope="module")
def engine(session: Session) -> Engine:
    return Engine(session)


@pytest.fixture(scope="module")
def machine(session: Session, deployment: Deployment, engine: Engine) -> Iterator[Developer]:
    """An agent that has made its container and prepared it."""
    machine = developer(session, deployment, engine, engine.image())
    machine.start_agent()
    machine.prepare()
    machine.wait("healthy", PREPARE_SECONDS)
    yield machine
    machine.agent.stop()


def test_the_agent_makes_the_container(machine: Developer) -> None:
    found = machine.engine.inspect(machine.container)
    assert found["State"]["Status"] == "running"
    assert LABEL in found["Config"]["Labels"]
    # The server runs as the image's mysql, whatever that number is called here, and the data is its own.
    image_uid = int(machine.engine.docker("exec", machine.container, "id", "-u", "mysql"))
    assert (machine.directory / "volume/data").stat().st_uid == image_uid
    assert Path(f"/proc/{found['State']['Pid']}").stat().st_uid == image_uid
    assert [entry["_name"] for entry in machine.instance.call("list_users")[0]] == ["ann"]
    assert [entry["_name"] for entry in machine.instance.call("list_databases")[0]] == ["shop"]
    assert machine.query("SELECT DATABASE(), @@port") == [("shop", machine.port)]


def test_a_restart_is_a_new_server_on_the_old_data(machine: Developer) -> None:
    machine.query("CREATE TABLE IF NOT EXISTS kept (number INT)")
    machine.query("REPLACE INTO kept VALUES (7)")
    container, pid = machine.engine.inspect(machine.container)["Id"], machine.engine.pid(machine.container)
    machine.instance.call("restart")
    assert machine.engine.pid(machine.container) != pid
    assert machine.engine.inspect(machine.container)["Id"] == container
    assert machine.query("SELECT number FROM kept") == [(7,)]


def test_a_configuration_group_is_checked_and_applied(machine: Developer) -> None:
    with pytest.raises(GuestCallFailed, match="no_such_option"):
        machine.instance.call("update_overrides", overrides={"no_such_option": 1})
    # All of the group, as a controller sends it.
    group = machine.address | {"max_connections": 77}
    machine.instance.call("update_overrides", overrides=group)
    machine.instance.call("apply_overrides", overrides={"max_connections": 77})
    assert machine.query("SELECT @@max_connections") == [(77,)]
    machine.instance.call("restart")
    assert machine.query("SELECT @@max_connections, @@port") == [(77, machine.port)]


def test_a_stopped_database_stays_down_and_starts_again(machine: Developer, peer: OsloPeer) -> None:
    # Trove's API class drops the flag that its agents know.
    peer.call(machine.instance.id, "stop_db", machine.instance.key, do_not_start_on_reboot=True)
    found = machine.engine.inspect(machine.container)
    assert (found["State"]["Status"], found["HostConfig"]["RestartPolicy"]["Name"]) == ("exited", "no")
    machine.wait("shutdown")
    machine.instance.call("restart")
    machine.wait("healthy")
    contents = machine.deployment.controller.render_template(machine.instance)
    machine.instance.call("stop_db")
    machine.instance.call("start_db_with_conf_changes", config_contents=contents, ds_version=MARIADB.version)
    machine.wait("healthy")
    assert machine.query("SELECT DATABASE()") == [("shop",)]


def test_a_crashed_server_comes_back(machine: Developer) -> None:
    pid = machine.engine.pid(machine.container)
    assert pid > 0, "the server runs"
    os.kill(pid, signal.SIGKILL)
    wait_until("another server", lambda: machine.engine.pid(machine.container) not in (0, pid), 60, machine.log)
    machine.instance.wait_heartbeat()
    machine.wait("healthy")


def test_the_database_outlives_the_agent(machine: Developer) -> None:
    pid = machine.engine.pid(machine.container)
    kill_pid(machine.agent.pid)
    machine.start_agent()
    machine.instance.wait_heartbeat()
    machine.wait("healthy")
    assert machine.engine.pid(machine.container) == pid
    machine.agent.stop()
    machine.start_agent()
    machine.wait("healthy")
    assert machine.engine.pid(machine.container) == pid
    assert [entry["_name"] for entry in machine.instance.call("list_users")[0]] == ["ann"]


def test_a_container_made_for_it_is_configured(session: Session, deployment: Deployment, engine: Engine) -> None:
    """The developer has made the container, with the agent's directories at the same paths."""
    machine = developer(session, deployment, engine)
    volumes = [f"--volume={machine.directory / part}:{machine.directory / part}" for part in ("conf", "run", "volume")]
    server = ["/usr/sbin/mariadbd", f"--defaults-file={machine.directory}/conf/my.cnf", "--user=mysql"]
    image = engine.image()
    engine.docker("run", "--rm", "--network=none", *volumes, image, "/usr/bin/chown", "mysql", str(machine.directory / "run"))
    identity = engine.docker("create", "--name", machine.container, "--network=host", *volumes, image, *server)
    machine.start_agent()
    machine.prepare()
    machine.wait("healthy", PREPARE_SECONDS)
    assert engine.inspect(machine.container)["Id"] == identity
    assert machine.query("SELECT DATABASE(), @@port") == [("shop", machine.port)]
    machine.instance.call("restart")
    machine.agent.stop()


def test_a_container_with_files_of_its_own_is_used_as_it_is(session: Session, deployment: Deployment, engine: Engine) -> None:
    """All it shares with the agent is its socket."""
    machine = developer(session, deployment, engine)
    machine.socket.parent.chmod(0o777)
    server = ["/usr/sbin/mariadbd", "--user=mysql", f"--port={machine.port}"]
    share = f"--volume={machine.socket.parent}:/run/mysqld"
    identity = engine.docker("run", "--detach", "--name", machine.container, "--network=host", share, engine.image(), *server)
    machine.start_agent()
    machine.prepare()
    machine.wait("healthy", PREPARE_SECONDS)
    assert machine.query("SELECT DATABASE()") == [("shop",)]
    machine.instance.call("stop_db")
    assert engine.inspect(machine.container)["State"]["Status"] == "exited"
    machine.instance.call("restart")
    assert engine.inspect(machine.container)["Id"] == identity
    with pytest.raises(GuestCallFailed, match="its configuration cannot be changed from here"):
        machine.instance.call("update_overrides", overrides={"max_connections": 77})
    machine.agent.stop()


def test_a_container_out_of_reach_is_named(session: Session, deployment: Deployment, engine: Engine) -> None:
    machine = developer(session, deployment, engine)
    engine.docker("create", "--name", machine.container, "--network=host", engine.image(), "/usr/sbin/mariadbd", "--user=mysql")
    machine.start_agent()
    machine.prepare()
    machine.wait("failed to spawn")
    assert f"does not have the directory of the socket, {machine.socket.parent}" in machine.log()
    machine.agent.stop()


def test_no_engine_is_named(session: Session, deployment: Deployment, engine: Engine) -> None:
    machine = developer(session, deployment, engine, "no:image")
    environment = dict(os.environ, DOCKER_HOST="unix:///var/tmp/no-such-engine.sock")
    argv = [str(agent_binary()), "--config-dir", str(machine.directory / "conf.d")]
    agent = Child("agent", argv, machine.directory / "agent.log", environment)
    session.defer(agent.stop)
    machine.prepare()
    machine.wait("failed to spawn")
    assert "the docker engine cannot be reached" in machine.log()
    agent.stop()


def test_no_secret_is_in_the_log(machine: Developer) -> None:
    log = machine.log()
    planted = [machine.password, machine.instance.key, deployment_secret(machine)]
    assert not [secret for secret in planted if secret in log]
    (admin,) = [line for line in (machine.directory / "state/os_admin.cnf").read_text().splitlines() if line.startswith("password")]
    assert admin.partition("=")[2].strip().strip('"') not in log
    assert (machine.directory / "state/os_admin.cnf").stat().st_mode & 0o077 == 0


def deployment_secret(machine: Developer) -> str:
    return machine.deployment.controller.auth_token
