"""Nothing secret that went through a guest may be found in its logs, in a file that others may read, or beside a process."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

from bench.deployment import Server

# Larger files hold no text of ours (the server's own binaries would be in the base root, not here).
LARGEST_FILE = 50 * 1024 * 1024


def search_and_end(*servers: Server) -> None:
    """Powers guests off that nobody needs any more, after a search; those that are off already are left alone."""
    running = [server for server in servers if server.guest.container.running]
    with contextlib.ExitStack() as ends:
        for server in running:
            ends.callback(server.guest.container.stop)
        for server in running:
            search(server)


def search(server: Server) -> None:
    """Looks for every secret planted in a running guest."""
    assert len(server.secrets) >= 3, "those of the deployment at least"
    search_logs(server)
    search_files(server)
    search_processes(server)


def search_logs(server: Server) -> None:
    log = server.guest.everything_logged()
    assert server.instance.id in log, "the log is the agent's, at debug level"
    assert leaked(server, log) == []


def search_files(server: Server) -> None:
    needles = [secret.encode() for secret in server.secrets]
    open_files = [path for path in changed_files(server) if path.stat().st_mode & stat.S_IROTH]
    assert open_files, "the guest has changed files"
    found = [path for path in open_files if any(needle in path.read_bytes() for needle in needles)]
    assert found == []


def search_processes(server: Server) -> None:
    files = server.guest.run(["find", "/proc", "-maxdepth", "2", "-name", "cmdline"], check=False).split()
    # Processes come and go meanwhile.
    shown = server.guest.run(["cat", *files], check=False)
    assert "trove-guestagent" in shown
    assert leaked(server, shown.replace("\0", "\n")) == []


def leaked(server: Server, text: str) -> list[str]:
    """The lines that hold a secret, without telling which secret it is."""
    return [line[:120] for line in text.splitlines() if any(secret in line for secret in server.secrets)]


def changed_files(server: Server) -> Iterator[Path]:
    """Files that the guest wrote: what is in its overlay above the base root."""
    upper = server.guest.disk.root.parent / "upper"
    for path in upper.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_FILE:
            yield path
