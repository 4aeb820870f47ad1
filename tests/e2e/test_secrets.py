"""Runs last: nothing secret that went through any guest may be found in its logs or in a file that others may read."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from bench.deployment import Deployment, Server

# Larger files hold no text of ours (the server's own binaries would be in the base root, not here).
LARGEST_FILE = 50 * 1024 * 1024


def running(deployment: Deployment) -> Iterator[Server]:
    return (server for server in deployment.servers if server.guest.container.running)


def leaked(server: Server, text: str) -> list[str]:
    """The lines that hold a secret, without telling which secret it is."""
    return [line[:120] for line in text.splitlines() if any(secret in line for secret in server.secrets)]


def test_no_log_holds_a_secret(deployment: Deployment, mariadb: Server, mysql: Server) -> None:
    servers = list(running(deployment))
    assert mariadb in servers and mysql in servers
    for server in servers:
        assert len(server.secrets) >= 4
        log = server.guest.everything_logged()
        assert server.instance.id in log, "the log is the agent's, at debug level"
        assert leaked(server, log) == []


def test_no_file_for_everybody_holds_a_secret(deployment: Deployment, mariadb: Server, mysql: Server) -> None:
    for server in running(deployment):
        needles = [secret.encode() for secret in server.secrets]
        open_files = [path for path in changed_files(server) if path.stat().st_mode & stat.S_IROTH]
        assert open_files, "the guest has changed files"
        found = [path for path in open_files if any(needle in path.read_bytes() for needle in needles)]
        assert found == []


def test_no_process_shows_a_secret(deployment: Deployment, mariadb: Server, mysql: Server) -> None:
    for server in running(deployment):
        processes = server.guest.run(["find", "/proc", "-maxdepth", "2", "-name", "cmdline"], check=False).split()
        shown = "".join(server.guest.run(["cat", path], check=False) for path in processes)
        assert leaked(server, shown.replace("\0", "\n")) == []


def changed_files(server: Server) -> Iterator[Path]:
    """Files that the guest wrote: what is in its overlay above the base root."""
    upper = server.guest.disk.root.parent / "upper"
    for path in upper.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_FILE:
            yield path
