"""The task manager: the real actions of a Trove release over a Nova and a Cinder that the test plays.

Imported by the workers of each release (`guest_api.serve`). What the actions ask of Nova and Cinder becomes events for the test (`guest_api.tell`),
which does it to the guest, or refuses.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable
from typing import Any

# First: it imports what patches the standard library.
import guest_api

from trove.cluster import models as cluster_models
from trove.cluster.tasks import ClusterTasks
from trove.common import cfg, exception
from trove.common.strategies.cluster.experimental.mongodb import taskmanager as mongodb
from trove.datastore import models as datastore_models
from trove.instance import models as instance_models
from trove.taskmanager import models

CONF = cfg.CONF
# How often an action looks again whether Nova, Cinder or the guest is done. Trove's own pauses, of seconds, are for real clouds.
LOOK_SECONDS = 0.2
VOLUME_ID, SERVER_ID = "bench-volume", "bench-server"


class Nova:
    """One server, and the attachment of its volume."""

    def __init__(self, flavor: dict[str, Any]) -> None:
        self.status = "ACTIVE"
        self.id = SERVER_ID
        # Of Nova's API since 2.47, as `ResizeAction` reads it.
        self.flavor = {"id": flavor["id"], "original_name": flavor["name"]}
        self.cinder = Cinder()
        self.servers = types.SimpleNamespace(get=lambda _id: self)
        self.flavors = types.SimpleNamespace(get=lambda _id: types.SimpleNamespace(**flavor))
        self.volumes = types.SimpleNamespace(delete_server_volume=self._detach, create_server_volume=self._attach)
        self._before = dict(self.flavor)

    def resize(self, flavor_id: str) -> None:
        guest_api.tell("resize", flavor_id=flavor_id)
        self.status = "VERIFY_RESIZE"
        self.flavor = {"id": flavor_id, "original_name": f"bench-{flavor_id}"}

    def confirm_resize(self) -> None:
        guest_api.tell("confirm")
        self.status = "ACTIVE"

    def revert_resize(self) -> None:
        guest_api.tell("revert")
        self.status, self.flavor = "ACTIVE", self._before

    def _detach(self, _server: str, _volume: str) -> None:
        guest_api.tell("detach")
        self.cinder.volume.status = "available"

    def _attach(self, _server: str, _volume: str, device: str) -> None:
        guest_api.tell("attach", device=device)
        self.cinder.volume.status = "in-use"


class Cinder:
    """The volume."""

    def __init__(self) -> None:
        self.volume = types.SimpleNamespace(id=VOLUME_ID, status="in-use", size=1)
        self.volumes = types.SimpleNamespace(get=lambda _id: self.volume, extend=self._extend)

    def _extend(self, _volume: str, size: int) -> None:
        # The answer is the size that the volume has in the end.
        self.volume.size = guest_api.tell("extend", size=size)


def resize_volume(instance_id: str, new_size: int, online: bool, time_out: int) -> None:
    """`trove resize-volume`, from the task manager on."""
    tasks = _tasks(instance_id, _flavor(512))
    # A file of its own has the option in releases that know it.
    if hasattr(CONF, "online_volume_resize"):
        CONF.set_override("online_volume_resize", online)
    CONF.set_override("volume_time_out", time_out)
    action = models.ResizeVolumeAction(tasks, tasks.volume_size, new_size)
    with _quick():
        action.execute()


def resize_flavor(instance_id: str, old_mb: int, new_mb: int) -> None:
    """`trove resize-instance`, from the task manager on."""
    old, new = _flavor(old_mb), _flavor(new_mb)
    tasks = _tasks(instance_id, old)
    with _quick():
        models.ResizeAction(tasks, old, new).execute()


def create_mongodb_cluster(guests: list[dict[str, str]]) -> list[str]:
    """`trove cluster-create`, from the moment on when the guests are told to prepare: each with its `id`, `type` and `address`. Returns those that it
    calls failed in the end."""
    rows = [instance_models.DBInstance.find_by(id=guest["id"]) for guest in guests]
    version = datastore_models.DatastoreVersion.load_by_uuid(rows[0].datastore_version_id)
    cluster = cluster_models.DBCluster.create(
        tenant_id=guest_api.TENANT, name="bench", datastore_version_id=version.id, task_status=ClusterTasks.BUILDING_INITIAL
    )
    for row, guest in zip(rows, guests):
        row.cluster_id, row.type, row.shard_id = cluster.id, guest["type"], "shard" if guest["type"] == "member" else None
        row.save()
    addresses = {guest["id"]: guest["address"] for guest in guests}

    def load(context: Any, instance_id: str) -> Any:
        """An instance without its server of Nova."""
        row = instance_models.DBInstance.find_by(id=instance_id)
        return types.SimpleNamespace(
            id=row.id, type=row.type, shard_id=row.shard_id, context=context, db_info=row, datastore_version=version, address=addresses[row.id]
        )

    class Tasks(mongodb.MongoDbClusterTasks):
        """With addresses that no Neutron knows."""

        @classmethod
        def get_ip(cls, instance: Any) -> str:
            return instance.address

    mongodb.Instance = types.SimpleNamespace(load=load)
    context = guest_api.new_context()
    with _quick():
        Tasks(context, cluster).create_cluster(context, cluster.id)
    ids = [guest["id"] for guest in guests]
    return [each for each in ids if instance_models.DBInstance.find_by(id=each).get_task_status().is_error]


def _flavor(memory_mb: int) -> dict[str, Any]:
    return {"id": str(memory_mb), "name": f"bench-{memory_mb}", "ram": memory_mb, "vcpus": 1, "disk": 1, "ephemeral": 0}


def _tasks(instance_id: str, flavor: dict[str, Any]) -> Any:
    """The instance as the task manager loads it, without asking a Nova for its server."""
    row = instance_models.DBInstance.find_by(id=instance_id)
    row.compute_instance_id, row.volume_id = SERVER_ID, VOLUME_ID
    row.save()
    status = instance_models.InstanceServiceStatus.find_by(instance_id=instance_id)
    nova = Nova(flavor)
    context = guest_api.new_context()
    # What 12.1.0 puts into its usage events; oslo.context has since given it another name.
    if not hasattr(context, "user"):
        context.user = context.user_id
    tasks = models.BuiltInstanceTasks(context, row, nova, status)
    tasks._nova_client, tasks._volume_client = nova, nova.cinder
    return tasks


class _quick:
    """Trove's `poll_until` without its pauses."""

    def __enter__(self) -> None:
        self._original = models.utils.poll_until
        models.utils.poll_until = _poll_until

    def __exit__(self, *_: object) -> None:
        models.utils.poll_until = self._original


def _poll_until(
    retriever: Callable[[], Any],
    condition: Callable[[Any], Any] = bool,
    sleep_time: float = 0,
    time_out: float = 0,
    initial_delay: float = 0,
) -> Any:
    deadline = time.monotonic() + time_out
    while not condition(value := retriever()):
        if time_out and time.monotonic() > deadline:
            raise exception.PollTimeOut
        time.sleep(LOOK_SECONDS)
    return value
