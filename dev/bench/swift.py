"""A private Swift: proxy, account, container and object server with rings of one replica and an account system, as the
`swift` user. Debian's packages; hash and policies are those of its /etc/swift/swift.conf.

    swift = Swift(session, hosts=("127.0.0.1", "198.51.100.1")).start()
    token, url = swift.login()                # tempauth; `url` is the storage URL: http://HOST:PORT/v1/AUTH_test
    swift.login(host="198.51.100.1")          # the same account, as guests reach it
    swift.expire(token)                       # from now on 401
    swift.client()                            # python-swiftclient's Connection
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .child import Child, as_user
from .command import run
from .session import Session
from .waiting import free_port, wait_until

if TYPE_CHECKING:
    from .keystone import Keystone

BINARIES = Path("/usr/bin")
# Four Python servers on two busy cores take their time.
START_SECONDS = 60.0
# Segments of one manifest at most (Swift: 1000), low so that few small objects pass it.
MAX_MANIFEST_SEGMENTS = 20

# Generous timeouts: an update of a container that comes too late would leave a listing stale.
BACKEND = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = swift
swift_dir = {directory}
devices = {directory}/devices
mount_check = false
fallocate_reserve = 0
disable_fallocate = true
log_level = INFO

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
node_timeout = 30
conn_timeout = 10
container_update_timeout = 30
"""

PROXY = """\
[DEFAULT]
bind_ip = {host}
bind_port = {port}
workers = 0
user = swift
swift_dir = {directory}
log_level = INFO
client_timeout = 30

[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats {auth} copy container-quotas account-quotas slo dlo proxy-logging proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
node_timeout = 30
recoverable_node_timeout = 30
conn_timeout = 10
recheck_container_existence = 1
recheck_account_existence = 1

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
use = egg:swift#memcache
memcache_servers = {memcached}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:copy]
use = egg:swift#copy
[filter:container-quotas]
use = egg:swift#container_quotas
[filter:account-quotas]
use = egg:swift#account_quotas
[filter:slo]
use = egg:swift#slo
max_manifest_segments = {max_segments}
[filter:dlo]
use = egg:swift#dlo
"""

TEMPAUTH = """\
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user} = {key} .admin
user_{account}_other = {key} .admin
user_reseller_reseller = {key} .reseller_admin
user_limited_limited = {key} .admin
"""


class Swift:
    """`start` returns once a token can be had and every server answers. With a `Keystone`, a second port takes its tokens."""

    def __init__(self, session: Session, hosts: tuple[str, ...] = ("127.0.0.1",), keystone: Keystone | None = None) -> None:
        self.hosts = hosts
        self.account, self.user, self.key = "test", "tester", secrets.token_hex(12)
        self.port = free_port("0.0.0.0")
        self.keystone = keystone
        self.keystone_port = free_port("0.0.0.0") if keystone else 0
        self.memcached = f"127.0.0.1:{free_port()}"
        self._directory = session.subdirectory(session.unique("swift"))
        self._backends = {kind: free_port() for kind in ("account", "container", "object")}
        self._children: list[Child] = []
        self._write_files()
        if keystone is not None:
            keystone.register_swift(f"http://{hosts[-1]}:{self.keystone_port}/v1/AUTH_")
        session.defer(self.close)

    def auth_url(self, host: str | None = None) -> str:
        """Where tempauth gives tokens."""
        return f"http://{host or self.hosts[0]}:{self.port}/auth/v1.0"

    def login(self, host: str | None = None) -> tuple[str, str]:
        """A token and the storage URL it is for."""
        headers = {"X-Auth-User": f"{self.account}:{self.user}", "X-Auth-Key": self.key}
        with urllib.request.urlopen(urllib.request.Request(self.auth_url(host), headers=headers), timeout=30) as answer:
            return answer.headers["X-Auth-Token"], answer.headers["X-Storage-Url"]

    def expire(self, token: str) -> None:
        """The token is unknown from now on, as one whose time is up; the next `login` gives another one."""
        address, _, port = self.memcached.partition(":")
        for key in (f"AUTH_/token/{token}", f"AUTH_/user/{self.account}:{self.user}"):
            hashed = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
            with socket.create_connection((address, int(port)), timeout=10) as connection:
                connection.sendall(f"delete {hashed}\r\n".encode())
                connection.recv(64)

    def client(self) -> Any:
        """python-swiftclient, which is in the environment of the tests."""
        import swiftclient

        token, url = self.login()
        return swiftclient.Connection(preauthurl=url, preauthtoken=token, retries=0)

    def description(self) -> str:
        """`TROVE_TEST_SWIFT`: what a test of another language needs to know, as JSON."""
        known = {
            "auth_url": self.auth_url(),
            "user": f"{self.account}:{self.user}",
            # Of the same account: its token may end, and no other test's does.
            "other_user": f"{self.account}:other",
            # Sets quotas of accounts; and one with an account of its own to set one for.
            "reseller": "reseller:reseller",
            "limited_user": "limited:limited",
            "key": self.key,
            "memcached": self.memcached,
            "max_manifest_segments": MAX_MANIFEST_SEGMENTS,
        }
        if self.keystone is not None:
            known["keystone"] = self.keystone.description()
        return json.dumps(known)

    def start(self) -> Swift:
        address, _, port = self.memcached.partition(":")
        # -U 0: no UDP; -m: megabytes.
        self._run("memcached", [*as_user("swift"), "memcached", "-l", address, "-p", port, "-U", "0", "-m", "16"])
        for kind in self._backends:
            self._server(f"{kind}-server", f"{kind}-server")
        for host in self.hosts:
            self._server("proxy-server", f"proxy-{host}")
            if self.keystone is not None:
                self._server("proxy-server", f"proxy-keystone-{host}")
        for child in self._children:
            wait_until(f"Swift ({child.name})", self._answers, START_SECONDS, child.tail, child.check_alive)
        return self

    def stop(self) -> None:
        """Everything ends at once; what is stored stays and `start` finds it again."""
        while self._children:
            self._children.pop().kill()

    close = stop

    def _server(self, program: str, name: str) -> None:
        # -v: the log to standard output as well, since nobody may listen at /dev/log.
        self._run(name, [*as_user("swift"), str(BINARIES / f"swift-{program}"), str(self._directory / f"{name}.conf"), "-v"])

    def _run(self, name: str, argv: list[str]) -> None:
        environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LANG": "C.UTF-8", "HOME": str(self._directory)}
        self._children.append(Child(name, argv, self._directory / f"{name}.log", environment, self._directory))

    def _answers(self) -> bool:
        try:
            for host in self.hosts:
                token, url = self.login(host)
                # A listing of the account goes through to the account server, and makes the account.
                urllib.request.urlopen(urllib.request.Request(url, headers={"X-Auth-Token": token}), timeout=30).close()
                if self.keystone is not None:
                    urllib.request.urlopen(f"http://{host}:{self.keystone_port}/healthcheck", timeout=30).close()
        except OSError:
            return False
        return True

    def _write_files(self) -> None:
        (self._directory / "devices" / "d1").mkdir(parents=True)
        for kind, port in self._backends.items():
            (self._directory / f"{kind}-server.conf").write_text(BACKEND.format(kind=kind, port=port, directory=self._directory))
            builder = str(self._directory / f"{kind}.builder")
            ring = ["swift-ring-builder", builder]
            run([*ring, "create", "6", "1", "0"])
            run([*ring, "add", "--region", "1", "--zone", "1", "--ip", "127.0.0.1", "--port", str(port), "--device", "d1", "--weight", "1"])
            run([*ring, "rebalance"])
        tempauth = TEMPAUTH.format(account=self.account, user=self.user, key=self.key)
        for host in self.hosts:
            self._write_proxy(f"proxy-{host}", host, self.port, "tempauth", tempauth)
            if self.keystone is not None:
                self._write_proxy(f"proxy-keystone-{host}", host, self.keystone_port, "authtoken keystoneauth", self.keystone.swift_filters())
        for path in (self._directory, *self._directory.rglob("*")):
            shutil.chown(path, "swift", "swift")

    def _write_proxy(self, name: str, host: str, port: int, auth: str, filters: str) -> None:
        text = PROXY.format(
            host=host, port=port, directory=self._directory, memcached=self.memcached, auth=auth, max_segments=MAX_MANIFEST_SEGMENTS
        )
        path = self._directory / f"{name}.conf"
        path.write_text(text + filters)
        path.chmod(0o600)
