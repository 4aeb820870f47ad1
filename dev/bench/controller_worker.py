"""The controller's side of an instance, run with the real Trove 2026.1 in a process of its own (see `guest_api`)."""

from __future__ import annotations

import time
from typing import Any

# First: it imports what patches the standard library.
import guest_api
import taskmanager
from guest_api import TENANT

from trove.backup import models as backup_models
from trove.backup import state as backup_state
from trove.common import cfg, constants, crypto_utils, template
from trove.datastore import models as datastore_models
from trove.extensions.common import common as extensions
from trove.instance import models, service_status, tasks

CONF = cfg.CONF


def create_instance(
    manager: str, version: str, datastore: str, name: str, volume_gb: int, secure: bool, packages: str
) -> dict[str, Any]:
    """Datastore, version, instance and status rows, as the API and the task manager make them; the injected files."""
    datastore_models.update_datastore(datastore, None)
    # Trove has no default for managers it no longer ships itself: the operator then names the extension, as here.
    extension = constants.REGISTRY_EXT_DEFAULTS.get(manager) or f"trove.guestagent.datastore.{manager}.manager.Manager"
    # Nor an option for their strategy of replication (MongoDB).
    strategy = None if "replication_namespace" in CONF.get(manager) else "none"
    datastore_models.update_datastore_version(datastore, version, manager, "image", "", packages, True, extension, strategy)
    row = datastore_models.DatastoreVersion.load(datastore_models.Datastore.load(datastore), version)
    # Read by DBInstance itself: with it, each instance gets a key of its own, stored encrypted.
    CONF.set_override("enable_secure_rpc_messaging", secure)
    instance = models.DBInstance.create(
        task_status=tasks.InstanceTasks.BUILDING,
        name=name,
        hostname=name,
        flavor_id="1",
        volume_size=volume_gb,
        tenant_id=TENANT,
        datastore_version_id=row.id,
    )
    status = models.InstanceServiceStatus.create(instance_id=instance.id, status=service_status.ServiceStatuses.NEW)
    full = models.BaseInstance(guest_api.new_context(), instance, None, status)
    files = full.get_injected_files(manager, row.version)
    key = instance.key.decode() if instance.key else None
    return {"id": instance.id, "key": key, "tenant_id": TENANT, "files": files}


def rotate_key(instance_id: str) -> str:
    """A new key for the instance's messages. Trove has no such operation: it is what an operator does to the database."""
    key = crypto_utils.generate_random_key()
    sealed = crypto_utils.encode_data(crypto_utils.encrypt_data(key, CONF.inst_rpc_key_encr_key))
    instance = models.DBInstance.find_by(id=instance_id)
    instance.encrypted_key = sealed
    instance.save()
    # Trove's services remember keys for as long as they run.
    models._instance_encryption_key = models.instance_encryption_key_cache(func=models._get_instance_encryption_key)
    return key


def render_template(instance_id: str, memory_mb: int) -> str:
    """Trove's own configuration template of the instance's datastore."""
    flavor = {"ram": memory_mb, "name": "bench", "id": "1", "vcpus": 1, "disk": 1}
    return template.SingleInstanceConfigTemplate(_version_of(instance_id), flavor, instance_id).render()


def prepare(instance_id: str, memory_mb: int, databases: list[Any], users: list[Any], options: dict[str, Any]) -> None:
    """Sends `prepare` as the task manager does; `options` replace single arguments of `API.prepare`."""
    version = _version_of(instance_id)
    schemas = databases if _in_wire_form(databases) else extensions.populate_validated_databases(databases)
    names = [schema["_name"] for schema in schemas]
    arguments: dict[str, Any] = {
        "packages": ",".join(version.packages) if isinstance(version.packages, list) else version.packages,
        "databases": schemas,
        "users": users if _in_wire_form(users) else extensions.populate_users(users, names),
        "device_path": CONF.get(version.manager).device_path or CONF.device_path,
        "mount_point": CONF.get(version.manager).mount_point,
        "config_contents": None,
        "overrides": {},
        "ds_version": version.version,
    }
    arguments.update(options)
    if arguments["config_contents"] is None:
        arguments["config_contents"] = render_template(instance_id, memory_mb)
    guest_api.guest(instance_id, "DBaaSInstanceCreate").prepare(memory_mb, **arguments)


def use_token(token: str) -> None:
    """From now on requests carry this token: one that a real Swift knows."""
    guest_api.AUTH_TOKEN = token


def create_backup(instance_id: str, swift_url: str, parent_id: str | None) -> str:
    """The row of a backup and the cast that has it made, as the task manager sends it. Returns its id."""
    version = _version_of(instance_id)
    backup = backup_models.DBBackup.create(
        name="bench",
        description="",
        tenant_id=TENANT,
        state=backup_state.BackupState.NEW,
        instance_id=instance_id,
        parent_id=parent_id,
        datastore_version_id=version.id,
        deleted=False,
    )
    parent = backup_models.DBBackup.find_by(id=parent_id) if parent_id else None
    info = {
        "id": backup.id,
        "name": backup.name,
        "description": backup.description,
        "instance_id": instance_id,
        "backup_type": backup.backup_type,
        "checksum": backup.checksum,
        "parent": {"location": parent.location, "checksum": parent.checksum} if parent else None,
        "datastore": version.manager,
        "datastore_version": version.name,
        "swift_container": "database_backups",
        "storage_driver": "swift",
        "swift_url": swift_url,
    }
    guest_api.guest(instance_id, "DBaaSBackupCreate").create_backup(info)
    return backup.id


def replication_config(instance_id: str, role: str) -> str:
    """Trove's own configuration of a `replica` or a `source`."""
    flavor = {"ram": 1024, "name": "bench", "id": "1", "vcpus": 1, "disk": 1}
    rendered = {"replica": template.ReplicaConfigTemplate, "source": template.ReplicaSourceConfigTemplate}[role]
    return rendered(_version_of(instance_id), flavor, instance_id).render()


def replication_snapshot(instance_id: str, swift_url: str) -> dict[str, Any]:
    """A snapshot of a source, as the task manager has it made for a replica (trove/taskmanager/models.py: get_replication_master_snapshot);
    `snapshot` and `backup_info` of the replica's `prepare`."""
    guest, version = guest_api.guest(instance_id), _version_of(instance_id)
    assert guest.backup_required_for_replication() is True
    info: dict[str, Any] = {
        "name": "Replication snapshot",
        "description": "Backup image used to initialize replication slave",
        "instance_id": instance_id,
        "parent_id": None,
        "tenant_id": TENANT,
        "state": backup_state.BackupState.NEW,
        "datastore_version_id": version.id,
        "deleted": False,
        "replica_number": 1,
        "backup_info": {},
        "storage_driver": "swift",
    }
    columns = {name: value for name, value in info.items() if name not in ("replica_number", "backup_info", "storage_driver")}
    backup = backup_models.DBBackup.create(**columns)
    info.update({"id": backup.id, "datastore": version.manager, "datastore_version": version.name, "swift_url": swift_url})
    snapshot = guest.get_replication_snapshot(info, replication_config(instance_id, "source"))
    snapshot["config"] = replication_config(instance_id, "replica")
    snapshot["dataset"].update(info["backup_info"])
    # The conductor may still be at it when the guest has answered; the task manager has a server made in the meantime.
    deadline = time.monotonic() + 30
    while (done := backup_models.DBBackup.find_by(id=backup.id)).state not in backup_state.BackupState.END_STATES:
        assert time.monotonic() < deadline, done.state
        time.sleep(0.1)
    restore = {"id": backup.id, "location": done.location, "type": done.backup_type, "checksum": done.checksum}
    restore.update({"state": done.state, "storage_driver": "swift", "swift_url": swift_url})
    return {"snapshot": snapshot, "backup_info": restore}


def restart(instance_id: str) -> None:
    """`POST /instances/ID/action {"restart": {}}`: the API marks the instance, the task manager calls the guest."""
    status = models.InstanceServiceStatus.find_by(instance_id=instance_id)
    # Until then the conductor drops the heartbeats of an instance that it knows to be RESTART_REQUIRED.
    status.set_status(service_status.ServiceStatuses.RESTARTING)
    status.save()
    guest_api.guest(instance_id).restart()


def instance_status(instance_id: str) -> dict[str, Any]:
    """What `GET /instances/ID` derives its status from."""
    status = models.InstanceServiceStatus.find_by(instance_id=instance_id)
    return {
        "description": status.status.description,
        "api_status": status.status.api_status,
        "updated_at": status.updated_at.timestamp() if status.updated_at else None,
    }


def _in_wire_form(entries: list[Any]) -> bool:
    """Whether the entries go out as they are: what Trove's API would not let through is for the guest to refuse."""
    return any("_name" in entry for entry in entries)


def _version_of(instance_id: str) -> Any:
    instance = models.DBInstance.find_by(id=instance_id)
    return datastore_models.DatastoreVersion.load_by_uuid(instance.datastore_version_id)


if __name__ == "__main__":
    guest_api.serve(
        create_instance,
        rotate_key,
        render_template,
        prepare,
        use_token,
        create_backup,
        replication_snapshot,
        replication_config,
        instance_status,
        restart,
        taskmanager.resize_volume,
        taskmanager.resize_flavor,
    )
