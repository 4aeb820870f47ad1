"""A guest of a built image: booted by the image's own init, with the network and the injected files that cloud-init brings."""

from __future__ import annotations

import json
from collections.abc import Mapping

from . import image
from .guest import FSTAB_UNIT, Guest
from .network import HOST_ADDRESS

# Where NoCloud looks without a disk of its own.
SEED = "/var/lib/cloud/seed/nocloud"
# A container has no iSCSI; the daemon waits for it, and the boot for the daemon.
ABSENT = ("iscsid.socket", "iscsid.service", "open-iscsi.service")


class ImageGuest(Guest):
    """`spec.root` is the mounted image without the agent, to which `spec.package` is added as `dev/image` does it."""

    _files: Mapping[str, str] = {}

    def inject(self, files: Mapping[str, str]) -> None:
        self._files = {**self._files, **files}
        entries = [{"path": path, "content": text, "permissions": "0600"} for path, text in self._files.items()]
        subnet = {"type": "static", "address": f"{self.address}/24", "gateway": HOST_ADDRESS}
        network = {"version": 1, "config": [{"type": "physical", "name": "host0", "subnets": [subnet]}]}
        # JSON is YAML.
        self.disk.write(f"{SEED}/user-data", f"#cloud-config\n{json.dumps({'write_files': entries})}\n", 0o600)
        self.disk.write(f"{SEED}/meta-data", json.dumps({"instance-id": self.name, "local-hostname": self.name}))
        self.disk.write(f"{SEED}/network-config", json.dumps(network))

    def _write_system(self) -> None:
        assert self.spec.package, "the agent comes in its package"
        image.install(self.disk.root, self.spec.package)
        # All that is not the image's: what a container lacks, and what systemd leaves to whoever runs it.
        for unit in ABSENT:
            self.disk.link(f"/etc/systemd/system/{unit}", "/dev/null")
        self.disk.write("/etc/systemd/system/bench-fstab.service", FSTAB_UNIT)
        self.disk.link("/etc/systemd/system/local-fs.target.wants/bench-fstab.service", "../bench-fstab.service")
