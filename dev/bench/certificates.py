"""An authority of one run, and certificates from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .command import run

DAYS = "2"


class Authority:
    """Its own certificate is `ca.pem` in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.file, self._key = self._make("ca", ["-addext", "keyUsage=critical,keyCertSign,cRLSign"])

    def issue(self, name: str, hosts: Sequence[str] = ()) -> tuple[Path, Path]:
        """Files of certificate and key; `hosts` are addresses the certificate is for."""
        options = ["-CA", str(self.file), "-CAkey", str(self._key), "-addext", "basicConstraints=CA:FALSE"]
        if hosts:
            options += ["-addext", "subjectAltName=" + ",".join(f"IP:{host}" for host in hosts)]
        return self._make(name, options)

    def _make(self, name: str, options: Sequence[str]) -> tuple[Path, Path]:
        cert, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
        files = ["-subj", f"/CN={name}", "-days", DAYS, "-keyout", str(key), "-out", str(cert)]
        run(["openssl", "req", "-x509", *curve, *files, *options])
        return cert, key
