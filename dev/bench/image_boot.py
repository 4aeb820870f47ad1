"""Boots a built image under qemu, beside the real controller: it has to go ACTIVE there, and to come back after it was powered off.

    python3 -m bench.image_boot DATASTORE IMAGE.qcow2
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

from .deployment import MARIADB, POSTGRESQL, REDIS, Deployment, Server
from .guest import Guest
from .machine import ACCELERATOR, DISK_GB, Machine
from .session import Session

KINDS = {"mariadb": MARIADB, "postgresql": POSTGRESQL, "redis": REDIS}
# Where the processor is emulated.
SERVING_SECONDS = 900.0


def boot(datastore: str, image: Path) -> None:
    with Session() as session:
        deployment = Deployment(session).start()
        kind = replace(KINDS[datastore], packages="")
        instance = deployment.controller.create_instance(kind.manager, kind.version)
        machine = Machine(session, image)
        server = Server(kind, cast(Guest, machine), instance)
        machine.inject(instance.files)
        began = time.monotonic()

        def tell(what: str) -> None:
            print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)

        machine.boot()
        tell(f"powered on ({ACCELERATOR})")
        deployment.wait_consumed(server, SERVING_SECONDS)
        tell("the agent consumes its queue")
        password = server.secret()
        # Redis has neither.
        databases = [] if datastore == "redis" else [{"name": "first"}]
        users = [{"name": "owner", "password": password, "host": "%", "databases": databases}] if databases else []
        instance.prepare(databases, users)
        server.wait_active(SERVING_SECONDS)
        tell("ACTIVE")
        machine.shut_down()
        tell("powered off in order")
        grown = machine.root_gb()
        # The other images are without the element for it.
        assert grown > DISK_GB * 0.9 or not machine.has_boot_loader, f"the root has not grown to the disk: {grown:.2f} GB"
        tell(f"its root has {grown:.2f} of {DISK_GB} GB")
        machine.boot()
        deployment.wait_consumed(server, SERVING_SECONDS)
        instance.wait_heartbeat(SERVING_SECONDS)
        server.wait_active(SERVING_SECONDS)
        if databases:
            names = [entry["_name"] for entry in instance.call("list_databases")[0]]
            assert names == ["first"], names
        if datastore == "mariadb":
            assert server.can_log_in("owner", password)
        tell("ACTIVE again, with its data")


def main(arguments: list[str]) -> None:
    match arguments:
        case [datastore, image] if datastore in KINDS:
            boot(datastore, Path(image).resolve())
        case _:
            raise SystemExit(f"{__doc__}\nDATASTORE: {', '.join(KINDS)}")


if __name__ == "__main__":
    main(sys.argv[1:])
