"""A virtual machine of a built image: qemu boots its disk with its own kernel, or by its own boot loader, and a config drive, as Nova makes it, brings network and injected files."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .child import Child
from .command import run
from .image import ROOT_LABEL, kernel_files
from .network import BRIDGE, HOST_ADDRESS, lease_address
from .session import Session
from .waiting import wait_until

MEMORY_MB = 1024
VOLUME_MB = 1024
# Of the flavor: larger than any image, which has to grow into it.
DISK_GB = 6
# There may be a /dev/kvm with which no kernel gets far: emulation works everywhere, and who knows better says so. It takes minutes where hardware takes seconds.
ACCELERATOR = os.environ.get("TROVE_BENCH_ACCELERATOR", "tcg")
END_SECONDS = 300.0
SUPER_BLOCK, EXT4_MAGIC = 1024, 0xEF53


def ext4_gb(disk: bytes) -> float:
    """Size in GiB of the file system on a disk of which this is the beginning: in its first partition, or on all of it (Linux, "ext4 Data Structures", super block)."""
    start = 0
    magic = struct.unpack_from("<H", disk, SUPER_BLOCK + 56)[0]
    if magic != EXT4_MAGIC:
        # The first entry of a DOS partition table: its first sector.
        start = struct.unpack_from("<I", disk, 446 + 8)[0] * 512
        assert struct.unpack_from("<H", disk, start + SUPER_BLOCK + 56)[0] == EXT4_MAGIC
    blocks, block_size = struct.unpack_from("<I", disk, start + SUPER_BLOCK + 4)[0], 1024 << struct.unpack_from("<I", disk, start + SUPER_BLOCK + 24)[0]
    return blocks * block_size / (1 << 30)


class Machine:
    """Stands where a `Guest` does, for what can be done from outside: nobody can log in to the image."""

    def __init__(self, session: Session, image: Path) -> None:
        self.name = session.unique("tg")
        self.address = lease_address(session)
        self._image = image
        self._directory = session.subdirectory(f"{self.name}-machine")
        self._disk, self._volume = self._directory / "disk.qcow2", self._directory / "volume.raw"
        # The image itself is not written to.
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(self._disk), f"{DISK_GB}G"])
        run(["truncate", "--size", f"{VOLUME_MB}M", str(self._volume)])
        # Of the range that is administered locally, and different for each address.
        self._mac = f"52:54:00:00:00:{int(self.address.rsplit('.')[-1]):02x}"
        run(["ip", "tuntap", "add", "dev", self.name, "mode", "tap"])
        session.defer(run, ["ip", "link", "delete", self.name])
        run(["ip", "link", "set", self.name, "master", BRIDGE, "up"])
        self._child: Child | None = None
        session.defer(self.stop)

    def inject(self, files: Mapping[str, str]) -> None:
        """Makes the config drive, in the form of Nova's documentation ("Metadata"); the owner and mode of files are cloud-init's."""
        latest, content = self._directory / "drive/openstack/latest", self._directory / "drive/openstack/content"
        latest.mkdir(parents=True)
        content.mkdir()
        listed = []
        for number, (path, text) in enumerate(files.items()):
            (content / f"{number:04}").write_text(text)
            listed.append({"path": path, "content_path": f"/content/{number:04}"})
        link = {"id": "tap0", "type": "phy", "ethernet_mac_address": self._mac, "mtu": 1500}
        network = {
            "id": "network0", "type": "ipv4", "link": "tap0", "ip_address": self.address, "netmask": "255.255.255.0",
            "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": HOST_ADDRESS}],
        }
        (latest / "meta_data.json").write_text(json.dumps({"uuid": self.name, "name": self.name, "hostname": self.name, "launch_index": 0, "files": listed}))
        (latest / "network_data.json").write_text(json.dumps({"links": [link], "networks": [network], "services": []}))
        run(["genisoimage", "-quiet", "-J", "-l", "-r", "-V", "config-2", "-o", str(self._directory / "config.iso"), str(self._directory / "drive")])

    def boot(self) -> None:
        self._child = Child(self.name, self._arguments(), self._directory / "qemu.log")
        wait_until("the monitor", (self._directory / "monitor").exists, 30, self._child.tail, self._child.check_alive)

    def shut_down(self) -> None:
        """Presses the power button, and waits for the system to end in order."""
        assert self._child is not None
        self._tell("system_powerdown")
        try:
            self._child.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not power off:\n{self.agent_log()}") from None
        self.stop()

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None
        (self._directory / "monitor").unlink(missing_ok=True)

    @property
    def has_boot_loader(self) -> bool:
        """Otherwise kernel and initial RAM disk lie beside the image."""
        return not all(path.exists() for path in kernel_files(self._image).values())

    def root_gb(self) -> float:
        """How large the root's file system (ext4) is, in GiB. Of a machine that is off."""
        head = self._directory / "head"
        run(["qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=1M", "count=8", f"if={self._disk}", f"of={head}"])
        return ext4_gb(head.read_bytes())

    def agent_log(self) -> str:
        """What can be seen from outside: the end of the console."""
        console = self._directory / "console"
        return console.read_text(errors="replace")[-6000:] if console.exists() else ""

    def _arguments(self) -> list[str]:
        argv = ["qemu-system-x86_64", "-no-user-config", "-nodefaults", "-display", "none", "-name", self.name]
        argv += ["-machine", "q35", "-accel", ACCELERATOR, "-cpu", "max", "-smp", "1", "-m", str(MEMORY_MB)]
        kernel = kernel_files(self._image)
        if not self.has_boot_loader:
            argv += ["-kernel", str(kernel["vmlinuz"]), "-initrd", str(kernel["initrd.img"])]
            argv += ["-append", f"root=LABEL={ROOT_LABEL} console=ttyS0"]
        # In the order of /dev/vda, /dev/vdb.
        for name, path, form in (("root", self._disk, "qcow2"), ("volume", self._volume, "raw")):
            argv += ["-drive", f"if=none,id={name},file={path},format={form}", "-device", f"virtio-blk-pci,drive={name}"]
        argv += ["-drive", f"if=none,id=config,file={self._directory}/config.iso,format=raw,media=cdrom,readonly=on", "-device", "ide-cd,drive=config"]
        argv += ["-netdev", f"tap,id=net,ifname={self.name},script=no,downscript=no", "-device", f"virtio-net-pci,netdev=net,mac={self._mac}"]
        argv += ["-device", "virtio-rng-pci", "-serial", f"file:{self._directory}/console"]
        return [*argv, "-qmp", f"unix:{self._directory}/monitor,server=on,wait=off"]

    def _tell(self, command: str) -> None:
        """One command of QEMU's machine protocol."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self._directory / "monitor"))
            with connection.makefile("rw") as lines:
                lines.readline()
                for word in ("qmp_capabilities", command):
                    lines.write(json.dumps({"execute": word}) + "\n")
                    lines.flush()
                    # Events come in between.
                    answer = next(line for line in map(json.loads, lines) if "return" in line or "error" in line)
                    assert "error" not in answer, answer
