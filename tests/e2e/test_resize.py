"""Volume and flavor resize, in the order of the real task managers of 2026.1 and 12.1.0, with rows in the database.

Trove's own action classes run; the test plays Nova and Cinder: it detaches, extends and attaches the guest's disk, moves the guest, or fails to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from bench.controller import Controller
from bench.deployment import MARIADB, MYSQL, Deployment, Server
from bench.waiting import wait_until
from bench.worker import GuestCallFailed, Refusal, Worker
from conftest import prepared
from secret_search import search_and_end

ROWS = 500
# How long an action waits for a size that Cinder never reaches.
NEVER_SECONDS = 1
VOLUME_SECONDS = 60
STATUS_SECONDS = 60
# Free space that a volume loses to the file system itself.
OVERHEAD = 0.9


@dataclass
class Cloud:
    """Nova and Cinder. What fails is in `broken`; where the volume comes back is `path`."""

    server: Server
    broken: set[str] = field(default_factory=set)
    path: str = "/dev/vdb"
    # Bytes of memory that the guest may use where Nova moves it to; `None` for as much as there is.
    memory: int | None = None
    # What was asked, and the status that the controller had for the instance then.
    events: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, event: str, arguments: dict[str, Any]) -> Any:
        if event in ("detach", "resize"):
            # Each comes after stop_db, whose outcome the controller has to see.
            self.server.instance.wait_status("shutdown", STATUS_SECONDS, self.server.guest.agent_log)
        self.events.append((event, self.server.instance.status()))
        if event in self.broken:
            raise Refusal(f"the cloud does not {event}")
        return getattr(self, f"_{event}")(**arguments)

    def _detach(self) -> None:
        guest = self.server.guest
        assert not [mount for mount in guest.mounts() if mount["target"] == "/var/lib/mysql"], "detached in use"
        guest.detach_volume()

    def _extend(self, size: int) -> int:
        if "grow" in self.broken:
            return 1
        self.server.guest.volume.grow(size)
        return size

    def _attach(self, device: str) -> None:
        assert device == "/dev/vdb", "what the controller calls it, whatever it is called in the guest"
        self.server.guest.attach_volume(self.path)

    def _resize(self, flavor_id: str) -> None:
        self.server.guest.move()
        self.server.guest.container.cgroup.limit_memory(self.memory)

    def _revert(self) -> None:
        self.server.guest.move()
        self.server.guest.container.cgroup.limit_memory(None)

    def _confirm(self) -> None:
        pass


@pytest.fixture(scope="module", params=[MARIADB, MYSQL], ids=["mariadb", "mysql"])
def resized(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[Server]:
    """A guest of this module's own, with rows."""
    server = prepared(deployment, request.param, secure=request.param is MARIADB)
    query(server, "CREATE TABLE kept (id INT PRIMARY KEY, word VARCHAR(40))")
    query(server, "INSERT INTO kept VALUES " + ", ".join(f"({row}, 'row {row}')" for row in range(ROWS)))
    yield server
    search_and_end(server)


@pytest.fixture(params=["2026.1", "train"])
def release(request: pytest.FixtureRequest, deployment: Deployment, train: Worker, resized: Server) -> Iterator[Controller | Worker]:
    """Whose task manager it is. The agent speaks to each in its words; the libraries below Trove 12.1.0 are too new here to give its age away."""
    if request.param == "2026.1":
        yield deployment.controller
        return
    guest, told = resized.guest, "/etc/trove/conf.d/release.conf"
    guest.run(["tee", told], stdin="[DEFAULT]\ncontroller_release = train\n")
    guest.run(["systemctl", "restart", "trove-guestagent"])
    resized.instance.wait_status("running", STATUS_SECONDS, guest.agent_log)
    yield train
    guest.run(["rm", told])
    guest.run(["systemctl", "restart", "trove-guestagent"])
    resized.wait_active()


def query(server: Server, sql: str) -> list[tuple[Any, ...]]:
    return server.query("owner", server.owner_password, sql, database="first")


def check_rows(server: Server) -> None:
    """Everything is there, and the database takes more."""
    checksum = "SELECT COUNT(*), SUM(CRC32(CONCAT(id, word))) FROM kept WHERE id >= 0"
    before = query(server, checksum)
    assert before[0][0] == ROWS
    query(server, "REPLACE INTO kept VALUES (-1, 'one more')")
    assert query(server, checksum) == before


def wait_up(server: Server) -> None:
    """In service, in the words of either release."""
    status = server.instance.status
    wait_until("the instance to be in service", lambda: status() in ("healthy", "running"), STATUS_SECONDS, server.guest.agent_log)
    check_rows(server)


def size_mb(server: Server) -> int:
    """Of the file system, as the database sees it."""
    text = server.guest.run(["stat", "--file-system", "--format=%S %b", "/var/lib/mysql"])
    block, blocks = map(int, text.split())
    return block * blocks >> 20


def image_mb(server: Server) -> int:
    return server.guest.volume.image.stat().st_size >> 20


def resize_volume(worker: Controller | Worker, cloud: Cloud, megabytes: int, online: bool = False, time_out: int = VOLUME_SECONDS) -> None:
    """Cinder's gigabytes are megabytes here."""
    asked = {"instance_id": cloud.server.instance.id, "new_size": megabytes, "online": online, "time_out": time_out}
    worker.direct("resize_volume", cloud, **asked)


@pytest.mark.parametrize("path", ["/dev/vdb", "/dev/vdc"], ids=["same-name", "other-name"])
def test_a_volume_grows(resized: Server, release: Controller | Worker, path: str) -> None:
    """It comes back larger, as another device, and under the same name or another one."""
    cloud, larger = Cloud(resized, path=path), image_mb(resized) + 100
    resize_volume(release, cloud, larger)
    assert [event for event, _ in cloud.events] == ["detach", "extend", "attach"]
    assert {status for _, status in cloud.events} == {"shutdown"}
    wait_up(resized)
    assert size_mb(resized) > larger * OVERHEAD


def test_a_volume_under_another_name_is_there_after_a_boot(deployment: Deployment, resized: Server) -> None:
    resize_volume(deployment.controller, Cloud(resized, path="/dev/vdc"), image_mb(resized) + 50)
    resized.guest.reboot()
    deployment.wait_consumed(resized)
    resized.instance.wait_heartbeat(90)
    wait_up(resized)
    assert [mount["target"] for mount in resized.guest.mounts() if mount["source"] in ("/dev/vdc", resized.guest.volume.device)].count("/var/lib/mysql") == 1


@pytest.mark.parametrize(
    ("broken", "events"),
    [
        ("detach", ["detach"]),
        ("extend", ["detach", "extend", "attach"]),
        ("grow", ["detach", "extend", "attach"]),
    ],
)
def test_a_cloud_that_fails_before_the_volume_has_grown(
    deployment: Deployment, resized: Server, broken: str, events: list[str]
) -> None:
    """The task manager attaches what it has detached, has it mounted, and the database restarted."""
    cloud, before = Cloud(resized, {broken}), size_mb(resized)
    with pytest.raises(GuestCallFailed):
        resize_volume(deployment.controller, cloud, image_mb(resized) + 100, time_out=NEVER_SECONDS)
    assert [event for event, _ in cloud.events] == events
    wait_up(resized)
    assert size_mb(resized) == before


def test_a_volume_in_use_is_not_taken_away(deployment: Deployment, resized: Server) -> None:
    """The error says who holds it; the task manager has the database restarted."""
    guest, cloud = resized.guest, Cloud(resized)
    guest.run(["systemd-run", "--unit=holder", "--property=WorkingDirectory=/var/lib/mysql", "sleep", "infinity"])
    holder = guest.run(["systemctl", "show", "--property=MainPID", "--value", "holder"]).strip()
    try:
        with pytest.raises(GuestCallFailed, match=rf"in use by sleep \({holder}\)"):
            resize_volume(deployment.controller, cloud, image_mb(resized) + 100)
    finally:
        guest.run(["systemctl", "stop", "holder"])
    assert cloud.events == []
    wait_up(resized)


def test_a_volume_that_does_not_come_back_fails_and_is_repaired_by_hand(deployment: Deployment, resized: Server) -> None:
    """After the volume has grown the task manager leaves the instance failed; what it would have done next, an operator can."""
    cloud, larger = Cloud(resized, {"attach"}), image_mb(resized) + 100
    with pytest.raises(GuestCallFailed, match="the cloud does not attach"):
        resize_volume(deployment.controller, cloud, larger)
    assert cloud.events[-1][0] == "attach"
    call, place = resized.instance.call, {"device_path": "/dev/vdb", "mount_point": "/var/lib/mysql"}
    for method in ("resize_fs", "mount_volume"):
        with pytest.raises(GuestCallFailed, match="is the volume attached"):
            call(method, **place)
    # Without its volume the database must not start with an empty directory.
    with pytest.raises(GuestCallFailed, match="not mounted"):
        call("restart")
    resized.guest.attach_volume()
    call("resize_fs", **place)
    call("mount_volume", **place)
    call("restart")
    wait_up(resized)
    assert size_mb(resized) > larger * OVERHEAD


def test_online_growth_needs_a_right_that_root_here_lacks(deployment: Deployment, resized: Server) -> None:
    """ext4 wants CAP_SYS_RESOURCE of the machine, which this one does not give; the error says so, and the database never stops."""
    cloud, before = Cloud(resized), query(resized, "SELECT CONNECTION_ID()")
    megabytes = image_mb(resized) + 100
    with pytest.raises(GuestCallFailed, match="Permission denied to resize filesystem"):
        resize_volume(deployment.controller, cloud, megabytes, online=True)
    assert [event for event, _ in cloud.events] == ["extend"]
    assert before[0][0] < query(resized, "SELECT CONNECTION_ID()")[0][0], "the same server"
    wait_up(resized)


def test_a_flavor_changes_and_user_options_stay(resized: Server, release: Controller | Worker) -> None:
    resized.instance.call("update_overrides", overrides={"wait_timeout": 777})
    resized.instance.call("apply_overrides", overrides={"wait_timeout": 777})
    cloud = Cloud(resized)
    for old, new in ((512, 1024), (1024, 512)):
        release.direct("resize_flavor", cloud, instance_id=resized.instance.id, old_mb=old, new_mb=new)
        wait_up(resized)
        ((connections, wait_timeout),) = query(resized, "SELECT @@max_connections, @@global.wait_timeout")
        assert (connections, wait_timeout) == (100 * new // 512, 777)
    assert cloud.events == [("resize", "shutdown"), ("confirm", cloud.events[1][1])] * 2
    assert cloud.events[1][1] in ("healthy", "running")


def test_a_flavor_that_the_database_does_not_fit_is_reverted(deployment: Deployment, resized: Server) -> None:
    """The template of such a flavor asks for more memory than there is: the database does not start, and goes back to what it had."""
    # MySQL goes on until there is no memory left: not all of this machine's.
    cloud, old, huge = Cloud(resized, memory=2 << 30), 512, 1 << 34
    with pytest.raises(GuestCallFailed):
        deployment.controller.direct("resize_flavor", cloud, instance_id=resized.instance.id, old_mb=old, new_mb=huge)
    assert [event for event, _ in cloud.events] == ["resize", "revert"]
    wait_up(resized)
    ((connections,),) = query(resized, "SELECT @@max_connections")
    assert connections == 100
