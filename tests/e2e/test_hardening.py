"""The agent as its unit confines it: how much that is, and that nothing is left open without a reason given."""

from __future__ import annotations

import json
import re

import pytest
from bench.deployment import Server
from bench.guest import UNIT
from bench.session import REPOSITORY

# systemd's own word for less is "OK".
EXPOSURE = 4.0
EXPLAINED = REPOSITORY / "docs/hardening.md"
# Bits of the kernel's capability.h: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, KILL, SETGID, SETUID, SYS_PTRACE.
CAPABILITIES = sum(1 << bit for bit in (0, 1, 2, 3, 4, 5, 6, 7, 19))


@pytest.fixture
def agent(mariadb: Server) -> Server:
    return mariadb


def status(server: Server) -> dict[str, str]:
    """`/proc/PID/status` of the agent."""
    lines = server.guest.read(f"/proc/{server.guest.agent_pid()}/status").splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def test_systemd_calls_the_exposure_low_enough(agent: Server) -> None:
    said = agent.guest.run(["systemd-analyze", "security", "--no-pager", UNIT])
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert float(level) < EXPOSURE, said


def test_everything_that_is_left_open_is_explained(agent: Server) -> None:
    rows = json.loads(agent.guest.run(["systemd-analyze", "security", "--no-pager", "--json=short", UNIT]))
    left_open = {row["name"] for row in rows if not row["set"]}
    assert left_open, "nothing is perfect"
    table = EXPLAINED.read_text().partition("## What is left open")[2].partition("\n## ")[0]
    explained = {name.replace("\\|", "|") for line in table.splitlines() for name in re.findall(r"`([^`]+)`", line.partition(" | ")[0])}
    assert left_open == explained - {"systemd-analyze security trove-guestagent.service", "tests/e2e/test_hardening.py"}


def test_the_kernel_holds_the_agent_to_it(agent: Server) -> None:
    seen = status(agent)
    assert int(seen["CapBnd"], 16) == CAPABILITIES
    assert int(seen["CapEff"], 16) == CAPABILITIES
    # A filter is in force, and no program makes the agent's children more than they are.
    assert (seen["Seccomp"], seen["NoNewPrivs"]) == ("2", "1")
    inside = ["nsenter", "--mount", f"--target={agent.guest.agent_pid()}", "--"]
    for path in ("/usr/trove", "/boot/trove", "/proc/sys/kernel/hostname"):
        refused = agent.guest.container.run_full([*inside, "tee", path], stdin="")
        assert "Read-only file system" in refused.stderr, (path, refused.stderr)
    assert agent.guest.run([*inside, "ls", "-A", "/root"]) == ""


def test_what_the_agent_mounts_is_mounted_for_the_guest(agent: Server) -> None:
    mounted = [mount["target"] for mount in agent.guest.mounts() if mount["source"] == agent.guest.volume_path]
    assert mounted == ["/var/lib/mysql"]


def test_the_unit_and_its_files_are_in_order(agent: Server) -> None:
    assert agent.guest.run(["systemd-analyze", "verify", UNIT]) == ""
    assert agent.guest.run(["stat", "--format=%a %U %G", "/var/log/trove", "/run/trove-guestagent", "/var/lib/trove-guestagent"]).splitlines() == [
        "2750 root trove-guestagent",
        "700 root root",
        "700 root root",
    ]
