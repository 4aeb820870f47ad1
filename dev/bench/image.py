"""Guest images, built by diskimage-builder from `elements/`.

    python3 -m bench.image ensure DATASTORE                  builds what is missing of it for later
    python3 -m bench.image build DATASTORE PACKAGE OUTPUT    a qcow2 with the agent of the .deb PACKAGE, its kernel and its initial RAM disk
    python3 -m bench.image vm DATASTORE PACKAGE OUTPUT       a qcow2 with partitions and a boot loader, all of it by one run of disk-image-create

Everything but the agent of the former is built once for what goes into it (`disk-image-create` takes minutes) and kept between runs; the agent's package goes in last.
Standard library only: this module runs before any environment exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from .apt_sources import apt_proxy, codename, debian_mirror, security_mirror
from .command import run
from .locking import locked
from .roots import CACHE
from .session import REPOSITORY

ELEMENTS = REPOSITORY / "elements"
DATASTORES = ("mariadb", "postgresql", "redis")
BUILDER = "diskimage-builder==3.43.0"
# Minutes; much longer beside a compiler that goes first.
BUILD_SECONDS = 5400.0
ROOT_LABEL = "cloudimg-rootfs"
# Of builds of all images: what diskimage-builder keeps between them (packages, the base system) is for one only.
BUILDING = CACHE / "image.lock"
# One file system without a partition table, which is mounted as it is.
BLOCK_DEVICE = f"""\
- local_loop:
    name: image0
    size: 4GiB
- mkfs:
    name: mkfs_root
    base: image0
    type: ext4
    label: {ROOT_LABEL}
    mount:
      mount_point: /
      fstab:
        options: defaults
        fsck-passno: 1
"""


def settings() -> dict[str, str]:
    """What a build takes from the machine."""
    mirrors = {"DIB_DISTRIBUTION_MIRROR": debian_mirror(), "DIB_DEBIAN_SECURITY_MIRROR": security_mirror()}
    return {
        "DIB_RELEASE": codename(),
        "DIB_DEBIAN_COMPONENTS": "main",
        "ELEMENTS_PATH": str(ELEMENTS),
        **{name: value for name, value in mirrors.items() if value},
    }


def recipe(datastore: str) -> str:
    """Changes with everything that a build depends on."""
    files = sorted(path for name in elements_of(f"trove-{datastore}") for path in (ELEMENTS / name).rglob("*") if path.is_file() and path.name != "README.md")
    parts = [BUILDER, BLOCK_DEVICE, datastore, *(f"{name}={value}" for name, value in sorted(settings().items()) if name != "ELEMENTS_PATH")]
    digest = hashlib.sha256("\n".join(parts).encode())
    for path in files:
        digest.update(f"\n{path.relative_to(ELEMENTS)} {path.stat().st_mode:o}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def elements_of(name: str) -> set[str]:
    """The elements of this tree that this one is built with."""
    depends = (ELEMENTS / name / "element-deps").read_text().split()
    return {name}.union(*(elements_of(other) for other in depends if (ELEMENTS / other).is_dir()))


def without_agent(datastore: str) -> Path:
    """The raw image with everything but the agent. Safe beside other runs: one builds it, the others wait."""
    path = CACHE / f"image-{datastore}-{recipe(datastore)}.raw"
    if not path.is_file():
        with locked(BUILDING):
            # Another run may have built it meanwhile.
            if not path.is_file():
                _build(datastore, path)
    return path


def with_agent(base: Path, package: Path, path: Path) -> None:
    """A copy of `base` with the package, as its element would have installed it."""
    run(["cp", "--sparse=always", str(base), str(path)], 300)
    with mounted(path) as root:
        install(root, package)


def install(root: Path, package: Path) -> None:
    """Installs the package into an image's tree by the scripts of the element."""
    inside = root / "tmp/in_target.d/trove-guestagent"
    inside.mkdir(parents=True)
    shutil.copy(package, inside)
    environment = [f"DIB_TROVE_GUESTAGENT_PACKAGE={package.name}", "DEBIAN_FRONTEND=noninteractive"]
    paths = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        script = root / "tmp/in_target.d/install"
        shutil.copy(ELEMENTS / "trove-guestagent/install.d/60-trove-guestagent", script)
        run(["chroot", str(root), "env", "-i", paths, *environment, "/tmp/in_target.d/install"], 300)
        # What the element's last script does once the package is there; the presets are in place.
        run(["chroot", str(root), "systemctl", "enable", "trove-guestagent.service"])
    finally:
        shutil.rmtree(root / "tmp/in_target.d")


@contextlib.contextmanager
def mounted(image: Path, options: str = "rw") -> Iterator[Path]:
    """The image's file system, for as long as this lasts."""
    with tempfile.TemporaryDirectory(prefix="trove-image-", dir="/var/tmp") as directory:
        root = Path(directory)
        run(["mount", "-o", f"loop,{options}", str(image), directory])
        try:
            yield root
        finally:
            run(["umount", directory])


def _build(datastore: str, path: Path) -> None:
    for left in CACHE.glob(f"image-{datastore}-*.raw"):
        # Images are large: one of each is kept.
        left.unlink()
    with tempfile.TemporaryDirectory(prefix="trove-image-", dir="/var/tmp") as directory:
        own = {"DIB_TROVE_GUESTAGENT_PACKAGE": "later", "DIB_BLOCK_DEVICE_CONFIG": BLOCK_DEVICE}
        _create(f"image-{datastore}", ["-t", "raw", "-o", f"{directory}/image", "debian-minimal", f"trove-{datastore}"], own, directory)
        partial = path.with_suffix(".partial")
        run(["cp", "--sparse=always", f"{directory}/image.raw", str(partial)], 300)
        partial.rename(path)


def _create(name: str, arguments: list[str], own: Mapping[str, str], directory: str) -> None:
    """Runs disk-image-create, with its work and its result in `directory`."""
    log = CACHE / f"{name}.log"
    print(f"building {name}; log in {log}", file=sys.stderr, flush=True)
    # A build that a power cut ends is begun again: nothing has to reach the disk file by file.
    own = {**own, "TMP_DIR": directory, "PATH": f"{builder()}/bin:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "DPKG_FORCE": "unsafe-io"}
    environment: Mapping[str, str] = {**os.environ, **settings(), **own}
    proxy = apt_proxy()
    if proxy:
        environment = {"http_proxy": proxy, **environment}
    argv = [*_partitions(), "disk-image-create", "-a", "amd64", "--no-tmpfs", *arguments]
    with log.open("w") as output:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment, timeout=BUILD_SECONDS, check=False)
    if done.returncode != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
        raise SystemExit(f"disk-image-create of {name} ended with {done.returncode}:\n{end}")


def _partitions() -> list[str]:
    """In front of a command that wants partitions as kpartx makes them: where the kernel has no device mapper, another program has that name, and dmsetup's, for it."""
    if Path("/sys/class/misc/device-mapper").exists():
        return []
    script = 'for name in kpartx dmsetup; do mount --bind "$1" "$(command -v "$name")"; done; shift; exec "$@"'
    return ["unshare", "--mount", "bash", "-euc", script, "partitions", str(REPOSITORY / "dev/lib/partitions")]


def builder() -> Path:
    """The virtual environment of diskimage-builder, made once."""
    key = hashlib.sha256(repr((BUILDER, sys.version)).encode()).hexdigest()[:12]
    venv = CACHE / f"venv-image-{key}"
    if not (venv / "complete").exists():
        shutil.rmtree(venv, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(venv)], 120)
        run([str(venv / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", BUILDER], 600)
        (venv / "complete").touch()
    return venv


def build(datastore: str, package: Path, output: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="trove-image-", dir="/var/tmp") as directory:
        raw = Path(directory) / "image.raw"
        with_agent(without_agent(datastore), package, raw)
        with mounted(raw, "ro") as root:
            for link, path in kernel_files(output).items():
                shutil.copy(root / link, path)
        run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", str(raw), str(output)], 900)


def vm(datastore: str, package: Path, output: Path) -> None:
    """As an operator builds it: `output` is what Glance is given."""
    with locked(BUILDING), tempfile.TemporaryDirectory(prefix="trove-image-", dir="/var/tmp") as directory:
        own = {"DIB_TROVE_GUESTAGENT_PACKAGE": str(package)}
        _create(f"image-{datastore}-vm", ["-t", "qcow2", "-o", f"{directory}/image", "vm", "growroot", "debian-minimal", f"trove-{datastore}"], own, directory)
        shutil.move(f"{directory}/image.qcow2", output)
    for left in kernel_files(output).values():
        left.unlink(missing_ok=True)


def kernel_files(image: Path) -> dict[str, Path]:
    """What boots an image without a boot loader, from the root of its file system: kernel and initial RAM disk, which lie beside it; beside one with a boot loader they do not."""
    return {"vmlinuz": image.with_suffix(".vmlinuz"), "initrd.img": image.with_suffix(".initrd")}


def main(arguments: list[str]) -> None:
    match arguments:
        case ["ensure", datastore] if datastore in DATASTORES:
            print(without_agent(datastore))
        case ["build", datastore, package, output] if datastore in DATASTORES:
            build(datastore, Path(package), Path(output))
        case ["vm", datastore, package, output] if datastore in DATASTORES:
            vm(datastore, Path(package).resolve(), Path(output))
        case _:
            raise SystemExit(f"{__doc__}\nDATASTORE: {', '.join(DATASTORES)}")


if __name__ == "__main__":
    main(sys.argv[1:])
