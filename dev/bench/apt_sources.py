"""The Debian mirror this machine's own apt is configured with."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .command import run

APT = Path("/etc/apt")


def debian_mirror(apt: Path = APT) -> str | None:
    """The archive's address, or `None` when apt knows no Debian archive (debootstrap then takes its own default)."""
    override = os.environ.get("TROVE_DEV_MIRROR")
    if override:
        return override
    if _os_release().get("ID") != "debian":
        return None
    return _archive(apt, codename())


def security_mirror(apt: Path = APT) -> str | None:
    """Likewise, the archive of security updates."""
    return _archive(apt, f"{codename()}-security") if _os_release().get("ID") == "debian" else None


def codename() -> str:
    """The machine's own release."""
    return _os_release().get("VERSION_CODENAME", "")


def _archive(apt: Path, suite: str) -> str | None:
    for uri, suites, components in _entries(apt):
        if suite in suites and "main" in components and uri.startswith(("http:", "https:")):
            return uri.rstrip("/")
    return None


def apt_proxy() -> str | None:
    """apt's own HTTP proxy, which debootstrap does not know of."""
    text = run(["apt-config", "shell", "PROXY", "Acquire::http::Proxy"], check=False)
    found = re.search(r"PROXY='([^']+)'", text)
    return found.group(1) if found else None


def _os_release() -> dict[str, str]:
    pairs = (line.partition("=") for line in Path("/etc/os-release").read_text().splitlines())
    return {key: value.strip('"') for key, _, value in pairs}


def _entries(apt: Path) -> list[tuple[str, list[str], list[str]]]:
    directory = apt / "sources.list.d"
    found: list[tuple[str, list[str], list[str]]] = []
    for path in [apt / "sources.list", *sorted(directory.glob("*.list"))]:
        if path.is_file():
            found += _one_line_entries(path.read_text())
    for path in sorted(directory.glob("*.sources")):
        found += _deb822_entries(path.read_text())
    return found


def _one_line_entries(text: str) -> list[tuple[str, list[str], list[str]]]:
    found = []
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)", line.strip())
        if match:
            found.append((match[1], [match[2]], match[3].split()))
    return found


def _deb822_entries(text: str) -> list[tuple[str, list[str], list[str]]]:
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields = dict(re.findall(r"(?m)^([\w-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", "\n".join(lines)))
        if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes").strip() != "no":
            suites, components = fields.get("Suites", "").split(), fields.get("Components", "").split()
            found += [(uri, suites, components) for uri in fields.get("URIs", "").split()]
    return found
