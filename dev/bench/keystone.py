"""A private Keystone on SQLite, Debian's package: one project, one user with a password and an application credential, and an
object-store endpoint in its catalog.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from .child import Child, as_user
from .command import run
from .session import Session
from .waiting import free_port, wait_until

START_SECONDS = 60.0
# Migrations of the database on a busy machine.
SETUP_SECONDS = 180.0
REGION = "RegionOne"

CONFIGURATION = """\
[DEFAULT]
log_dir =
use_stderr = true
[database]
connection = sqlite:///{directory}/keystone.db
[token]
provider = fernet
[fernet_tokens]
key_repository = {directory}/fernet
[fernet_receipts]
key_repository = {directory}/receipts
[credential]
key_repository = {directory}/credential
[cache]
enabled = false
# The fewest bcrypt knows: a login need not take a second.
[identity]
password_hash_rounds = 4
"""

SWIFT_FILTERS = """\
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {url}
auth_url = {url}
auth_type = password
username = admin
password = {password}
project_name = admin
user_domain_id = default
project_domain_id = default
delay_auth_decision = true
token_cache_time = -1
# Without this an expired token would still be good for what its user began.
service_token_roles_required = true
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, member
"""


class Keystone:
    """`start` sets the database up, returns once tokens are given. Swift's endpoint comes with `register_swift`."""

    def __init__(self, session: Session, host: str = "127.0.0.1") -> None:
        self.port = free_port("0.0.0.0")
        self.url = f"http://{host}:{self.port}/v3"
        self.user, self.password, self.project = "backup", secrets.token_hex(12), "tenant"
        self.application_credential: dict[str, str] = {}
        self._host = host
        self._admin_password = secrets.token_hex(12)
        self._directory = session.subdirectory(session.unique("keystone"))
        self._configuration = self._directory / "keystone.conf"
        self._configuration.write_text(CONFIGURATION.format(directory=self._directory))
        shutil.chown(self._directory, "keystone", "keystone")
        self._server: Child | None = None
        session.defer(self.close)

    def start(self) -> Keystone:
        accounts = ["--keystone-user", "keystone", "--keystone-group", "keystone"]
        self._manage("db_sync")
        self._manage("fernet_setup", *accounts)
        self._manage("credential_setup", *accounts)
        # The password in argv is one of this run only.
        urls = [part for kind in ("public", "internal", "admin") for part in (f"--bootstrap-{kind}-url", self.url)]
        self._manage("bootstrap", "--bootstrap-password", self._admin_password, "--bootstrap-region-id", REGION, *urls)
        # Readers must not lock the writer out: Keystone leaves transactions open.
        with contextlib.closing(sqlite3.connect(self._directory / "keystone.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")
        argv = ["/usr/bin/keystone-wsgi-public", "--host", self._host, "--port", str(self.port), "--", "--config-file", str(self._configuration)]
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "HOME": str(self._directory)}
        server = Child("keystone", [*as_user("keystone"), *argv], self._directory / "keystone.log", environment, self._directory)
        self._server = server
        wait_until("Keystone", self._answers, START_SECONDS, server.tail, server.check_alive)
        self._add_user()
        return self

    def register_swift(self, url: str) -> None:
        """`url` ends in `AUTH_`; the project's id follows it in the catalog."""
        service = self._admin("POST", "services", {"service": {"type": "object-store", "name": "swift"}})["service"]["id"]
        for interface in ("public", "internal"):
            endpoint = {"service_id": service, "interface": interface, "region": REGION, "url": f"{url}%(project_id)s"}
            self._admin("POST", "endpoints", {"endpoint": endpoint})

    def swift_filters(self) -> str:
        """What Swift's proxy needs to take this Keystone's tokens."""
        return SWIFT_FILTERS.format(url=self.url, password=self._admin_password)

    def description(self) -> dict[str, Any]:
        return {
            "auth_url": self.url,
            "username": self.user,
            "password": self.password,
            "user_domain_name": "Default",
            "project_name": self.project,
            "project_domain_name": "Default",
            "region_name": REGION,
            "application_credential_id": self.application_credential["id"],
            "application_credential_secret": self.application_credential["secret"],
        }

    def close(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server = None

    def _add_user(self) -> None:
        project = self._admin("POST", "projects", {"project": {"name": self.project, "domain_id": "default"}})["project"]["id"]
        user = {"name": self.user, "password": self.password, "domain_id": "default"}
        user_id = self._admin("POST", "users", {"user": user})["user"]["id"]
        member = self._admin("GET", "roles?name=member")["roles"][0]["id"]
        self._admin("PUT", f"projects/{project}/users/{user_id}/roles/{member}")
        token, _ = self._login(self.user, self.password, self.project)
        wanted = {"application_credential": {"name": "backup"}}
        made = self._call("POST", f"users/{user_id}/application_credentials", wanted, token)["application_credential"]
        self.application_credential = {"id": made["id"], "secret": made["secret"]}

    def _login(self, user: str, password: str, project: str) -> tuple[str, dict[str, Any]]:
        domain = {"id": "default"}
        identity = {"methods": ["password"], "password": {"user": {"name": user, "domain": domain, "password": password}}}
        body = {"auth": {"identity": identity, "scope": {"project": {"name": project, "domain": domain}}}}
        request = urllib.request.Request(f"{self.url}/auth/tokens", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.headers["X-Subject-Token"], json.load(answer)

    def _admin(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        token, _ = self._login("admin", self._admin_password, "admin")
        return self._call(method, path, body, token)

    def _call(self, method: str, path: str, body: object, token: str) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from error

    def _manage(self, *arguments: str) -> None:
        run([*as_user("keystone"), "/usr/bin/keystone-manage", "--config-file", str(self._configuration), *arguments], SETUP_SECONDS)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=30).close()
        except OSError:
            return False
        return True
