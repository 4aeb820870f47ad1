"""A guest's disks: an overlay over a base root, and a loop device as the data volume."""

from __future__ import annotations

from pathlib import Path

from .command import run
from .session import Session
from .waiting import wait_until


class Overlay:
    """A writable root over a read-only base; making one costs nothing. With `megabytes`, no more than that can be written to it."""

    def __init__(self, session: Session, base: Path, name: str, megabytes: int | None = None) -> None:
        directory = session.subdirectory(name)
        if megabytes:
            image = directory.with_suffix(".img")
            run(["truncate", "--size", f"{megabytes}M", str(image)])
            run(["mkfs.ext4", "-q", str(image)])
            run(["mount", "-o", "loop", str(image), str(directory)])
            session.defer(_unmount, directory)
        self.root = directory / "root"
        upper, work = directory / "upper", directory / "work"
        for path in (self.root, upper, work):
            path.mkdir()
        options = f"lowerdir={base},upperdir={upper},workdir={work}"
        run(["mount", "-t", "overlay", "-o", options, "overlay", str(self.root)])
        session.defer(_unmount, self.root)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Writes a file of the guest, before it boots."""
        target = self.inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def unlink(self, path: str) -> None:
        """Removes a file or a link of the guest, not what the link points to."""
        self.inside(path).unlink(missing_ok=True)

    def link(self, path: str, to: str) -> None:
        target = self.inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(to)

    def inside(self, path: str) -> Path:
        return self.root / path.lstrip("/")


class LoopVolume:
    """An empty disk of `megabytes`; `device` is its node on the host while it is attached."""

    def __init__(self, session: Session, name: str, megabytes: int) -> None:
        self.image = session.directory / f"{name}.img"
        self.device = ""
        self.grow(megabytes)
        self.attach()
        session.defer(self.detach)

    def grow(self, megabytes: int) -> None:
        """What Cinder's extend looks like from inside, when it is attached."""
        run(["truncate", "--size", f"{megabytes}M", str(self.image)])
        if self.device:
            run(["losetup", "--set-capacity", self.device])

    def attach(self) -> None:
        """A device for it, which need not be the one it had before."""
        self.device = run(["losetup", "--find", "--show", str(self.image)]).strip()

    def detach(self) -> None:
        if not self.device:
            return
        # The kernel lets go of the device only when nobody uses it any more.
        run(["losetup", "--detach", self.device])
        wait_until(f"{self.device} to be free", lambda: not run(["losetup", "--associated", str(self.image)]).strip(), 20)
        self.device = ""


def _unmount(root: Path) -> None:
    def unmounted() -> bool:
        run(["umount", str(root)], check=False)
        return not root.is_mount()

    wait_until(f"{root} to be unmounted", unmounted, 20)
