"""A sharded MongoDB on guests of their own, made by Train's own task manager: a shard of three real members, a real config server, and a query router that is a stand-in
(`mongos` is in no package registry)."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest
from bench import mongod
from bench.command import run
from bench.deployment import PREPARE_SECONDS, Deployment, Server
from bench.session import REPOSITORY
from bench.waiting import wait_until
from bench.worker import Worker
from helpers import CAST_SECONDS, user
from pymongo.errors import OperationFailure
from replication_set import role
from secret_search import search_and_end
from test_mongodb import MONGODB, call, client, listed

# A set elects another primary, and a member comes back, within this time on a busy machine.
ELECTION_SECONDS = 60.0
ROUTER_UNIT = "elements/trove-mongodb/post-install.d/71-trove-mongodb-router"
STAND_IN = Path(__file__).with_name("mongos_stand_in.py")
SET = "rs1"


def place(deployment: Deployment) -> Server:
    """A guest that can have any part."""
    server = deployment.place(MONGODB, secure=True)
    mongod.put_into(server.guest)
    return server


def put_router_into(server: Server) -> None:
    """The stand-in where packages put `mongos`, with what it needs, and the unit that images have."""
    disk = server.guest.disk
    shutil.copy(STAND_IN, disk.inside("/usr/bin/mongos"))
    disk.inside("/usr/bin/mongos").chmod(0o755)
    server.guest.container.binds.append(f"{Path(bson.__file__).parent}:/usr/lib/python3/dist-packages/bson")
    shutil.copy(REPOSITORY / ROUTER_UNIT, disk.inside("/tmp/router"))
    run(["chroot", str(disk.root), "bash", "/tmp/router"])


class Cluster:
    """The guests by their parts, and the key that they were told."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.key = secrets.token_hex(32)
        self.members = [place(deployment) for _ in range(3)]
        self.config, self.router = place(deployment), place(deployment)
        put_router_into(self.router)
        self.servers = [*self.members, self.config, self.router]

    def boot(self) -> None:
        for server in self.servers:
            server.guest.container.start()
        for server in self.servers:
            server.guest.wait_booted()
            self.deployment.wait_consumed(server)

    def create(self, train: Worker) -> None:
        """What the task manager does: all are prepared, then it makes a cluster of them."""
        parts = [("member", {"shard_id": "shard", "replica_set_name": SET})] * 3 + [("config_server", {}), ("query_router", {})]
        guests = []
        for server, (part, more) in zip(self.servers, parts, strict=True):
            server.secrets.append(self.key)
            config = {"id": "cluster", "instance_type": part, "key": self.key} | more
            server.instance.prepare([], [], packages=[], cluster_config=config)
            guests.append({"id": server.instance.id, "type": part, "address": server.guest.address})
        failed = train.ask("create_mongodb_cluster", guests=guests)
        assert failed == [], "\n".join(server.guest.agent_log()[-3000:] for server in self.servers)

    def others(self, one: Server) -> list[Server]:
        return [server for server in self.members if server is not one]


def is_primary(server: Server) -> bool:
    return (role(server) or {}).get("name") == "primary"


def wait_primary(members: list[Server]) -> Server:
    """The one that is the primary, as soon as it is the only one to say so, and the others follow it."""
    wait_until("one primary", lambda: [is_primary(member) for member in members].count(True) == 1, ELECTION_SECONDS, lambda: str([*map(role, members)]))
    primary = next(filter(is_primary, members))
    others = [member for member in members if member is not primary]
    wanted = [(primary, {"name": "primary", "replicas": len(others)})]
    wanted += [(other, {"name": "replica", "source": f"{primary.guest.address}:27017", "trouble": None}) for other in others]
    for server, expected in wanted:
        wait_until(f"{expected} of {server.guest.name}", lambda s=server, e=expected: role(s) == e, ELECTION_SECONDS, lambda s=server: str(role(s)))
    return primary


@pytest.fixture(scope="module")
def cluster(deployment: Deployment, train: Worker) -> Iterator[Cluster]:
    made = Cluster(deployment)
    made.boot()
    made.create(train)
    yield made
    search_and_end(*made.servers)


def ask(train: Worker, server: Server, method: str, **arguments: Any) -> Any:
    """A call of the cluster strategy's guest API."""
    return train.ask("call", instance_id=server.instance.id, method=method, arguments=arguments, api="mongodb")


def test_all_are_active_and_each_knows_its_part_with_a_stand_in_of_mongos(train: Worker, cluster: Cluster) -> None:
    for server in cluster.servers:
        server.wait_active(PREPARE_SECONDS)
    wait_primary(cluster.members)
    wait_primary([cluster.config])
    assert {ask(train, server, "get_replica_set_name") for server in cluster.members} == {SET}
    assert ask(train, cluster.router, "is_shard_active", replica_set_name=SET)
    assert not ask(train, cluster.router, "is_shard_active", replica_set_name="rs2")
    assert cluster.router.guest.run(["systemctl", "is-active", "mongos.service"]).strip() == "active"
    assert cluster.router.guest.run(["systemctl", "is-enabled", "mongod.service"], check=False).strip() == "disabled"


def test_passwords_are_told_to_the_controller_and_open_the_servers(train: Worker, cluster: Cluster) -> None:
    """What growing asks for."""
    assert {ask(train, server, "get_key") for server in cluster.servers} == {cluster.key}
    primary = wait_primary(cluster.members)
    for holder, opened, port in ((cluster.router, cluster.config, 27019), (primary, primary, 27017)):
        password = ask(train, holder, "get_admin_password")
        for server in cluster.servers:
            server.secrets.append(password)
        login = {"username": "os_admin", "password": password, "directConnection": True, "serverSelectionTimeoutMS": 20_000}
        with pymongo.MongoClient(opened.guest.address, port, **login) as session:
            assert session["admin"].command("replSetGetStatus")["myState"] == 1
    with pytest.raises(OperationFailure), pymongo.MongoClient(primary.guest.address, directConnection=True) as nobody:
        nobody["admin"].command("replSetGetStatus")


def test_users_of_the_cluster_are_made_through_its_router(train: Worker, cluster: Cluster) -> None:
    password = cluster.router.secret()
    call(train, cluster.router, "create_user", users=[user("shop.u1", password, databases=("shop",))])
    wait_until("the user", lambda: listed(train, cluster.router, "users") == ["shop.u1"], CAST_SECONDS)
    with client(cluster.router, "shop.u1", password) as session:
        assert session["shop"].command("connectionStatus")["authInfo"]["authenticatedUsers"] == [{"user": "u1", "db": "shop"}]


def test_a_primary_that_loses_power_is_succeeded_and_comes_back(cluster: Cluster) -> None:
    gone = wait_primary(cluster.members)
    others = cluster.others(gone)
    gone.guest.container.stop()
    wait_primary(others)
    for server in others:
        server.instance.wait_heartbeat()
        assert server.instance.status() == "healthy"
    gone.guest.container.start()
    gone.guest.wait_booted()
    wait_primary(cluster.members)
    gone.instance.wait_heartbeat()
    gone.wait_active()
