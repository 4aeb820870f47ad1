"""The bridge of the guests and their addresses, shared by all runs on this machine.

A run holds a lease (a file with its process id) on the bridge and on each address. Leases of processes that are gone
count for nothing; the last one to leave takes the bridge down.
"""

from __future__ import annotations

import os
from pathlib import Path

from .command import run, run_full
from .locking import locked
from .session import Session

BRIDGE = "tgbench0"
# TEST-NET-2 (RFC 5737): a documentation range that nothing else uses.
PREFIX = "198.51.100"
HOST_ADDRESS = f"{PREFIX}.1"
FIRST_GUEST, LAST_GUEST = 10, 250

LEASES = Path("/run/trove-guestagent-bench")


def join_bridge(session: Session) -> str:
    """Makes sure that the bridge is there; returns the host's address on it."""
    with locked(LEASES / "lock"):
        lease = LEASES / f"bridge.{os.getpid()}.{session.name}"
        lease.write_text(str(os.getpid()))
        if run_full(["ip", "link", "show", BRIDGE], check=False).returncode != 0:
            run(["ip", "link", "add", BRIDGE, "type", "bridge"])
            run(["ip", "address", "add", f"{HOST_ADDRESS}/24", "dev", BRIDGE])
        run(["ip", "link", "set", BRIDGE, "up"])
    session.defer(_leave_bridge, lease)
    return HOST_ADDRESS


def lease_address(session: Session) -> str:
    """An address for one guest, given back at the end of the session."""
    with locked(LEASES / "lock"):
        for number in range(FIRST_GUEST, LAST_GUEST):
            lease = LEASES / f"address.{number}"
            if not _held(lease):
                lease.write_text(str(os.getpid()))
                session.defer(lease.unlink, True)
                return f"{PREFIX}.{number}"
    raise AssertionError(f"no free guest address left; see {LEASES}")


def _leave_bridge(lease: Path) -> None:
    with locked(LEASES / "lock"):
        lease.unlink(missing_ok=True)
        if not any(_held(other) for other in LEASES.glob("bridge.*")):
            run(["ip", "link", "delete", BRIDGE], check=False)


def _held(lease: Path) -> bool:
    try:
        pid = int(lease.read_text())
    except (OSError, ValueError):
        return False
    if Path(f"/proc/{pid}").exists():
        return True
    lease.unlink(missing_ok=True)
    return False
