"""A guest: a database server with the agent in it, as Nova would boot it from Trove's image."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .command import run
from .disk import LoopVolume, Overlay
from .network import HOST_ADDRESS, lease_address
from .nspawn import Container
from .roots import base_root
from .session import REPOSITORY, Session
from .waiting import wait_until

AGENT_PATH = "/usr/bin/trove-guestagent"
CTL_PATH = "/usr/bin/trove-guestctl"
UNIT = "trove-guestagent.service"
# What a package puts beside the programs.
SYSTEM_FILES = {
    UNIT: f"/lib/systemd/system/{UNIT}",
    "trove-guestagent.sysusers.conf": "/usr/lib/sysusers.d/trove-guestagent.conf",
    "trove-guestagent.tmpfiles.conf": "/usr/lib/tmpfiles.d/trove-guestagent.conf",
}
BOOT_SECONDS = 90.0
VOLUME_PATH = "/dev/vdb"

NETWORK = """\
[Match]
Name=host0

[Network]
Address={address}/24
Gateway={host}
LinkLocalAddressing=no
LLMNR=no
"""

# systemd ignores device entries of fstab inside a container (there is no udev to announce the device, and to link its UUID to
# it). A virtual machine mounts them at boot; this unit does it in their place. The shell loops over devices that only the guest can see; its text is
# fixed, and only the bench's guests have it.
FSTAB_UNIT = """\
[Unit]
Description=Mount the file systems of fstab, as a virtual machine does at boot
DefaultDependencies=no
After=local-fs-pre.target systemd-remount-fs.service
Before=local-fs.target
ConditionPathExists=/etc/fstab

[Service]
Type=oneshot
ExecStartPre=/bin/mkdir -p /dev/disk/by-uuid
ExecStartPre=-/bin/sh -c 'for device in /dev/vd?; do ln -sf "$device" "/dev/disk/by-uuid/$(blkid -p -o value -s UUID "$device")"; done'
ExecStart=/bin/mount --all
RemainAfterExit=yes

[Install]
WantedBy=local-fs.target
"""


@dataclass(frozen=True)
class GuestSpec:
    """What kind of guest: which base root, how large a volume, with an init or without one, how much can be written to its root, and the package
    its agent comes in, where that is not just copied."""

    root: str
    volume_mb: int = 600
    init: bool = True
    disk_mb: int | None = None
    package: Path | None = None


def agent_binary() -> Path:
    """`TROVE_AGENT_BIN`, else the newer of the release and the debug build."""
    named = os.environ.get("TROVE_AGENT_BIN")
    if named:
        return Path(named)
    builds = [REPOSITORY / "target" / profile / "trove-guestagent" for profile in ("release", "debug")]
    built = sorted((path for path in builds if path.exists()), key=lambda path: path.stat().st_mtime)
    if not built:
        raise AssertionError("no agent binary: run `cargo build` or set TROVE_AGENT_BIN")
    return built[-1]


class Guest:
    """Made with its disks and files; `boot` powers it on."""

    def __init__(self, session: Session, spec: GuestSpec) -> None:
        self._session = session
        self.address = lease_address(session)
        # Undone in reverse: the container ends before its disks go.
        self.volume = LoopVolume(session, session.unique("tg"), spec.volume_mb)
        self._build(spec)

    def rebuild(self, root: str) -> None:
        """What Nova's rebuild does: a new root disk from the image `root`. Volume and address stay. Off afterwards, and without injected files."""
        self.container.stop()
        self._build(replace(self.spec, root=root))

    def _build(self, spec: GuestSpec) -> None:
        self.spec = spec
        self.name = self._session.unique("tg")
        self.disk = Overlay(self._session, base_root(spec.root), f"{self.name}-disk", spec.disk_mb)
        # Where the guest finds its volume.
        self.volume_path = VOLUME_PATH
        binds = [f"{self.volume.device}:{VOLUME_PATH}"]
        command = () if spec.init else (AGENT_PATH, "--config-dir", "/etc/trove/conf.d")
        self.container = Container(self._session, self.name, self.disk.root, binds, command)
        self._write_system()

    def inject(self, files: Mapping[str, str]) -> None:
        """The files that Nova writes for Trove, with the owner and mode of file injection."""
        for path, text in files.items():
            self.disk.write(path, text, 0o600)

    def boot(self) -> Guest:
        self.container.start()
        if self.spec.init:
            self.wait_booted()
        else:
            self._configure_network()
        return self

    def wait_booted(self) -> None:
        wait_until(f"{self.name} to boot", self._booted, BOOT_SECONDS, self.container.console)

    def reboot(self) -> None:
        """`systemctl reboot` inside, and waits until the guest is up again."""
        self.run(["systemctl", "--no-block", "reboot"])
        # Told to keep its unit, nspawn ends at a reboot and leaves the second boot to whoever started it.
        wait_until(f"{self.name} to go down", lambda: not self.container.running, BOOT_SECONDS)
        self.container.stop()
        self.container.start()
        self.wait_booted()

    def move(self) -> None:
        """Powers the guest off in order and boots it again, as Nova does for another flavor or host."""
        self.container.shut_down()
        self.container.start()
        self.wait_booted()

    def detach_volume(self) -> None:
        """What Nova's detaching looks like from inside: the device is gone."""
        # Made by nspawn it is a mount, made by `attach_volume` a node.
        if any(mount["target"] == self.volume_path for mount in self.mounts()):
            self.run(["umount", self.volume_path])
        self.run(["rm", "-f", self.volume_path])
        self.volume.detach()
        self.container.binds.clear()

    def attach_volume(self, path: str = VOLUME_PATH) -> None:
        """What Nova's attaching looks like from inside: a device, of whatever number and name."""
        self.volume.attach()
        self.volume_path = path
        self.container.binds[:] = [f"{self.volume.device}:{path}"]
        device = os.stat(self.volume.device).st_rdev
        # A process inside is not let make one.
        node = ["mknod", path, "b", str(os.major(device)), str(os.minor(device))]
        self.container.run_in(node, ("-m",))

    def run(self, argv: list[str], timeout: float = 60.0, stdin: str | None = None, check: bool = True) -> str:
        """Runs a command inside as root."""
        return self.container.run(argv, timeout, stdin, check)

    def agent_pid(self) -> int:
        """The agent's process id inside the guest; 0 when it does not run, or the service manager is not there to tell (it is being replaced)."""
        if not self.spec.init:
            return int(self.run(["pidof", "-s", "trove-guestagent"], check=False).strip() or 0)
        return int(self.run(["systemctl", "show", "--property=MainPID", "--value", UNIT], check=False).strip() or 0)

    def agent_log(self) -> str:
        """Everything the agent wrote to its log."""
        if not self.spec.init:
            return self.container.console_text()
        return self.run(["journalctl", "--no-pager", "--output=short-precise", f"--unit={UNIT}"], check=False)

    def everything_logged(self) -> str:
        """The whole journal in full, and all of /var/log."""
        text = self.container.console_text()
        if self.spec.init:
            text += self.run(["journalctl", "--no-pager", "--output=export", "--all"])
        logs = self.disk.inside("/var/log")
        return text + "".join(_text(path) for path in sorted(logs.rglob("*")) if path.is_file() and not path.is_symlink())

    def mounts(self) -> list[dict[str, str]]:
        """Mounted file systems: `source`, `target`, `fstype`, `options`."""
        text = self.run(["findmnt", "--json", "--list", "--output", "SOURCE,TARGET,FSTYPE,OPTIONS"])
        return json.loads(text)["filesystems"]

    def read(self, path: str) -> str:
        return self.run(["cat", path])

    def _booted(self) -> bool:
        state = self.container.run_full(["systemctl", "is-system-running"]).stdout.strip()
        return state in ("running", "degraded")

    def _install_agent(self) -> None:
        disk, package = self.disk, self.spec.package
        if package:
            # As builders of images do it: nothing runs yet.
            shutil.copy(package, disk.inside("/root"))
            run(["chroot", str(disk.root), "dpkg", "--install", f"/root/{package.name}"])
            return
        shutil.copy(agent_binary(), disk.inside(AGENT_PATH))
        shutil.copy(agent_binary().with_name("trove-guestctl"), disk.inside(CTL_PATH))
        if self.spec.init:
            for source, path in SYSTEM_FILES.items():
                disk.write(path, (REPOSITORY / "systemd" / source).read_text())
            disk.link(f"/etc/systemd/system/multi-user.target.wants/{UNIT}", SYSTEM_FILES[UNIT])

    def _configure_network(self) -> None:
        inside = ("-n",)
        for argv in (
            ["ip", "address", "add", f"{self.address}/24", "dev", "host0"],
            ["ip", "link", "set", "host0", "up"],
            ["ip", "link", "set", "lo", "up"],
        ):
            self.container.run_in(argv, inside)

    def _write_system(self) -> None:
        disk = self.disk
        self._install_agent()
        disk.write("/etc/hostname", f"{self.name}\n")
        # The servers look clients up by address. There is no resolver here to wait for, only this file.
        disk.write("/etc/hosts", f"127.0.0.1 localhost\n{self.address} {self.name}\n{HOST_ADDRESS} controller\n")
        disk.unlink("/etc/resolv.conf")
        disk.write("/etc/resolv.conf", "")
        disk.write("/etc/fstab", "")
        if not self.spec.init:
            return
        disk.write("/etc/systemd/network/10-host0.network", NETWORK.format(address=self.address, host=HOST_ADDRESS))
        disk.write("/etc/systemd/system/bench-fstab.service", FSTAB_UNIT)
        enabled = "/etc/systemd/system/{}.wants/{}"
        disk.link(enabled.format("local-fs.target", "bench-fstab.service"), "../bench-fstab.service")
        disk.link(enabled.format("multi-user.target", "systemd-networkd.service"), "/lib/systemd/system/systemd-networkd.service")
        for unit in ("systemd-networkd-wait-online.service", "systemd-firstboot.service", "apt-daily.timer", "apt-daily-upgrade.timer"):
            disk.link(f"/etc/systemd/system/{unit}", "/dev/null")


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if "journal" not in path.parts else ""
