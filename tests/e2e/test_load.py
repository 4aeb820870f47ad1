"""A guest that has nothing left to give: its agent's heartbeats are on time, and it answers.

The guest's CPU and memory are limited by its control group, its root and its volume are filled to the last block, and calls wait for a database
that does not move. Heartbeats are read off the conductor's queue; what is compared is when the agent says that it sent them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from bench.deployment import MARIADB, Deployment, Server
from bench.era_peer import Tap
from bench.oslo_peer import OsloPeer
from bench.waiting import wait_until
from bench.worker import GuestCallFailed
from conftest import prepared
from helpers import create_database, database_names, schema
from secret_search import search_and_end

# Of the guests' configuration, in seconds.
INTERVAL = 2
# How many heartbeats each condition lasts for.
BEATS = 5
CALLS = 50
CALL_SECONDS = 180.0
BUSY_LOOPS = 8
# For all of the guest: half of one CPU, and this much more memory than it cannot do without.
CPU_SHARE = 0.5
SPARE_MEMORY = 24 << 20
# What can be written to the root: the agent's debug build has to be.
DISK_MB = 1500
BALLAST = ("/ballast", "/var/lib/mysql/ballast")


@pytest.fixture(scope="module")
def loaded(deployment: Deployment) -> Iterator[Server]:
    """A guest of this module's own, with a root that can be filled. Its messages are in the clear, for the tap."""
    server = prepared(
        deployment, MARIADB, secure=False, guest_options={"log_file": "/var/log/trove/trove-guestagent.log"}, disk_mb=DISK_MB
    )
    pid = server.guest.agent_pid()
    yield server
    assert server.guest.agent_pid() == pid, "one life of the agent"
    search_and_end(server)


@pytest.fixture(scope="module")
def tap(deployment: Deployment) -> Iterator[Tap]:
    tap = Tap(deployment.rabbit.url("127.0.0.1"), "trove-conductor")
    yield tap
    tap.close()


def sent(tap: Tap, server: Server) -> list[float]:
    """When each heartbeat was sent, by the agent's own clock."""
    beats = [message["args"] for message in tap.messages() if message["method"] == "heartbeat"]
    return [args["sent"] for args in beats if args["instance_id"] == server.instance.id]


def check_heartbeats(tap: Tap, server: Server) -> None:
    """None is skipped from now on, and none is late by an interval."""
    start = len(sent(tap, server))
    wait_until("heartbeats", lambda: len(sent(tap, server)) >= start + BEATS, BEATS * INTERVAL * 10, server.guest.agent_log)
    stamps = sent(tap, server)[max(start - 1, 0) :]
    gaps = [later - earlier for earlier, later in zip(stamps, stamps[1:], strict=False)]
    assert max(gaps) < 2 * INTERVAL, gaps


@contextlib.contextmanager
def saturated(server: Server) -> Iterator[None]:
    """Every moment of the CPU is wanted by something else."""
    guest, units = server.guest, [f"busy-{number}" for number in range(BUSY_LOOPS)]
    for unit in units:
        guest.run(["systemd-run", "--quiet", f"--unit={unit}", "md5sum", "/dev/zero"])
    guest.container.cgroup.limit_cpu(CPU_SHARE)
    try:
        yield
    finally:
        guest.container.cgroup.limit_cpu(None)
        guest.run(["systemctl", "stop", *units])


@contextlib.contextmanager
def full(server: Server) -> Iterator[None]:
    """Not a block is free, neither on the root nor on the volume."""
    guest = server.guest
    try:
        for path in BALLAST:
            for block in ("1M", "4k", "512"):
                options = ["oflag=append", "conv=notrunc"]
                guest.run(["dd", "if=/dev/zero", f"of={path}", f"bs={block}", *options], timeout=120, check=False)
        yield
    finally:
        guest.run(["rm", "-f", *BALLAST])


@contextlib.contextmanager
def short_of_memory(server: Server) -> Iterator[None]:
    """Little is left for cached files, programs among them, while something reads a lot of files."""
    group = server.guest.container.cgroup
    server.guest.run(["systemd-run", "--quiet", "--unit=reader", "find", "/usr", "-type", "f", "-exec", "md5sum", "{}", "+"])
    limit = group.memory_in_use() + SPARE_MEMORY

    def limited() -> bool:
        # What cannot be written back at once cannot be given up at once.
        with contextlib.suppress(OSError):
            group.limit_memory(limit)
            return True
        return False

    try:
        wait_until("the limit to be accepted", limited, 30)
        yield
    finally:
        group.limit_memory(None)
        server.guest.run(["systemctl", "stop", "reader"], check=False)


@contextlib.contextmanager
def calls_waiting(server: Server, peer: OsloPeer) -> Iterator[list[str]]:
    """That many databases are to be made, while the database's tables are locked. Afterwards each call has its answer."""
    root = server.instance.call("enable_root")["_password"]
    server.secrets.append(root)
    names = [f"load_{number}" for number in range(CALLS)]
    lock = server.connect("root", root)
    answers: list[Future[None]] = []
    with ThreadPoolExecutor(CALLS) as threads:
        try:
            with lock.cursor() as cursor:
                cursor.execute("FLUSH TABLES WITH READ LOCK")
            answers = [
                threads.submit(peer.call, server.instance.id, "create_database", timeout=CALL_SECONDS, databases=[schema(name)])
                for name in names
            ]
            wait_until("the calls to be accepted", lambda: journalled(server) == CALLS, 60)
            yield names
        finally:
            lock.close()
    assert [answer.result() for answer in answers] == [None] * CALLS
    assert set(names) <= set(database_names(server))
    for name in names:
        server.query("root", root, f"DROP DATABASE {name}")


def journalled(server: Server) -> int:
    names = server.guest.run(["ls", "/var/lib/trove-guestagent/journal"]).split()
    return sum(not name.endswith(".done") for name in names)


def test_a_saturated_cpu(loaded: Server, tap: Tap) -> None:
    with saturated(loaded):
        check_heartbeats(tap, loaded)
        assert loaded.instance.call("rpc_ping") is True


def test_full_disks(loaded: Server, tap: Tap) -> None:
    """What changes something is refused before anything is done, with the reason; what only asks is answered."""
    before = database_names(loaded)
    with full(loaded):
        check_heartbeats(tap, loaded)
        assert database_names(loaded) == before
        # What ext4 keeps back for itself is left.
        assert loaded.instance.call("get_volume_info")["avail_blocks"] == 0
        with pytest.raises(GuestCallFailed, match="No space left on device"):
            loaded.instance.call("restart")
        assert loaded.instance.status() == "healthy"
    create_database(loaded, schema("after_full"))
    loaded.instance.call("restart")
    loaded.wait_active()


def test_short_memory(loaded: Server, tap: Tap) -> None:
    with short_of_memory(loaded):
        check_heartbeats(tap, loaded)
        assert loaded.instance.call("rpc_ping") is True
    loaded.wait_active()


def test_fifty_waiting_calls(loaded: Server, tap: Tap, peer: OsloPeer) -> None:
    with calls_waiting(loaded, peer):
        check_heartbeats(tap, loaded)
        assert loaded.instance.call("rpc_ping") is True
        assert loaded.instance.status() == "healthy"


def test_everything_at_once(loaded: Server, tap: Tap, peer: OsloPeer) -> None:
    with calls_waiting(loaded, peer), full(loaded), short_of_memory(loaded), saturated(loaded):
        check_heartbeats(tap, loaded)
    loaded.wait_active()
