"""A guest from nothing to ACTIVE, told step by step. `dev/demo` runs this once the machine has what it needs."""

from __future__ import annotations

import argparse
import shlex
import signal

from .deployment import MARIADB, MYSQL, Deployment, Kind, Server
from .progress import Progress
from .roots import RECIPES, ensure
from .session import Session
from .swift import Swift
from .waiting import wait_until

KINDS = {"mariadb": MARIADB, "mysql": MYSQL}


def main() -> None:
    options = _options()
    kind, progress = KINDS[options.datastore], Progress()
    try:
        with Session() as session:
            server = _show(session, kind, progress)
            if options.keep:
                _keep(server, progress)
            progress.heading("Cleaning up")
            progress.note("guest, broker, conductor, addresses and disks of this run")
        progress.note(f"done; {progress.total():.0f} s in all")
    except KeyboardInterrupt:
        progress.note("interrupted; everything this run started is ended")
        raise SystemExit(130) from None


def _show(session: Session, kind: Kind, progress: Progress) -> Server:
    progress.heading("The controller: RabbitMQ, and Trove 2026.1 from PyPI")
    with progress.step(f"base system with {kind.root} (made once, kept)"):
        ensure(RECIPES[kind.root])
    deployment = Deployment(session)
    with progress.step("RabbitMQ answers"):
        deployment.rabbit.start()
    with progress.step("trove-conductor and Trove's database are up"):
        deployment.controller.start()
    server = _boot(deployment, kind, progress)
    passwords = _prepare(deployment, server, progress)
    _look(server, passwords, progress)
    _root(server, progress)
    _back_up(deployment, kind, server, passwords, progress)
    return server


def _boot(deployment: Deployment, kind: Kind, progress: Progress) -> Server:
    progress.heading("The guest: its own systemd, address and volume")
    with progress.step("instance in Trove's database, with a key for its RPC"):
        server = deployment.place(kind, secure=True)
    with progress.step("the guest boots; the agent reads /etc/trove/conf.d"):
        server.guest.boot()
    with progress.step("the agent consumes its queue"):
        deployment.wait_consumed(server)
    rows = [("instance", "address", "volume", "status")]
    rows.append((server.instance.id, server.guest.address, f"/dev/vdb, {server.guest.spec.volume_mb} MB", server.instance.status()))
    progress.table(rows)
    return server


def _prepare(deployment: Deployment, server: Server, progress: Progress) -> dict[str, str]:
    progress.heading("API.prepare: the real client, Trove's own template, RPC encrypted")
    passwords = {name: server.secret() for name in ("alice", "bob")}
    users = [
        {"name": "alice", "password": passwords["alice"], "host": "%", "databases": [{"name": "shop"}]},
        {"name": "bob", "password": passwords["bob"], "host": "%", "databases": [{"name": "shop"}, {"name": "blog"}]},
    ]
    databases = [{"name": "shop"}, {"name": "blog", "character_set": "utf8mb4", "collate": "utf8mb4_general_ci"}]
    seen: list[str] = []

    def status() -> bool:
        now = server.instance.status()
        if now not in seen:
            seen.append(now)
        if now == "failed to spawn":
            raise SystemExit(f"prepare failed:\n{server.guest.agent_log()}")
        return now == "healthy"

    with progress.step("volume, configuration, securing, databases, users"):
        server.instance.prepare(databases, users)
        wait_until("the instance to be healthy", status, 180, server.guest.agent_log)
    api = deployment.controller.ask("instance_status", instance_id=server.instance.id)
    progress.note(f"heartbeats in the conductor's database: {' -> '.join(seen)}; the API says {api['api_status']} (ACTIVE)")
    mount = next(mount for mount in server.guest.mounts() if mount["target"] == "/var/lib/mysql")
    progress.note(f"the data lives on {mount['source']} ({mount['fstype']}), mounted at {mount['target']}")
    return passwords


def _look(server: Server, passwords: dict[str, str], progress: Progress) -> None:
    progress.heading("What the controller sees")
    with progress.step("API.list_databases"):
        databases = server.instance.call("list_databases")[0]
    rows = [("database", "character set", "collation")]
    progress.table(rows + [(each["_name"], each["_character_set"], each["_collate"]) for each in databases])
    with progress.step("API.list_users"):
        users = server.instance.call("list_users")[0]
    rows = [("user", "host", "databases")]
    progress.table(rows + [(each["_name"], each["_host"], ", ".join(d["_name"] for d in each["_databases"])) for each in users])
    with progress.step("API.get_volume_info"):
        volume = server.instance.call("get_volume_info")
    progress.note(f"{volume['used']} of {volume['total']} GB used")

    progress.heading("What the user sees")
    with progress.step(f"alice logs in over TCP, {server.guest.address}:3306"):
        server.query("alice", passwords["alice"], "CREATE TABLE hello (word VARCHAR(20))", database="shop")
        server.query("alice", passwords["alice"], "INSERT INTO hello VALUES ('hello, world')", database="shop")
        sql = "SELECT CURRENT_USER(), VERSION(), word FROM hello"
        row = server.query("alice", passwords["alice"], sql, database="shop")[0]
    progress.table([("user", "server", "row"), tuple(str(cell) for cell in row)])


def _back_up(deployment: Deployment, kind: Kind, server: Server, passwords: dict[str, str], progress: Progress) -> None:
    progress.heading("A backup to Swift, tried out, and restored in another guest")
    swift = Swift(deployment.session, hosts=("127.0.0.1", deployment.host))
    with progress.step("Swift answers"):
        swift.start()
    token, url = swift.login(deployment.host)
    deployment.controller.ask("use_token", token=token)

    def backup_row() -> dict[str, str]:
        sql = "SELECT state, location, checksum, backup_type FROM backups WHERE id = ?"
        (row,) = deployment.controller.query(sql, backup)
        return dict(zip(("state", "location", "checksum", "type"), row, strict=True))

    with progress.step("API.create_backup, until the conductor has it COMPLETED"):
        backup = deployment.controller.ask("create_backup", instance_id=server.instance.id, swift_url=url, parent_id=None)
        wait_until("the backup's end", lambda: backup_row()["state"] in ("COMPLETED", "FAILED"), 180, server.guest.agent_log)
    row = backup_row()
    if row["state"] != "COMPLETED":
        raise SystemExit(f"the backup failed:\n{server.guest.agent_log()}")
    progress.note(f"{row['location'].split('/', 3)[3]}, {row['type']}, checksum {row['checksum']}")
    with progress.step("trove-guestctl verify-backup: restored aside, every table checked, thrown away"):
        server.guest.run(["install", "-m", "600", "/dev/stdin", "/run/token"], stdin=token)
        argv = ["trove-guestctl", "verify-backup", row["location"], "--token-file", "/run/token", "--swift-url", url]
        verdict = server.guest.run(argv, timeout=180).strip()
    progress.note(verdict)
    other = deployment.place(kind, secure=True)
    with progress.step("API.prepare of a second guest from the backup"):
        other.guest.boot()
        deployment.wait_consumed(other)
        info = {"id": backup, "location": row["location"], "type": row["type"], "checksum": row["checksum"]}
        other.prepare([], [], backup_info={**info, "storage_driver": "swift", "swift_url": url})
    found = other.query("alice", passwords["alice"], "SELECT CURRENT_USER(), VERSION(), word FROM hello", database="shop")[0]
    progress.table([("user", "server", "row"), tuple(str(cell) for cell in found)])


def _root(server: Server, progress: Progress) -> None:
    with progress.step("API.enable_root; root logs in over TCP"):
        root = server.instance.call("enable_root")
        grant = server.query("root", root["_password"], "SHOW GRANTS")[0][0]
    progress.note(str(grant).split(" IDENTIFIED")[0][:100])
    with progress.step("API.disable_root; root is refused"):
        server.instance.call("disable_root")
        if server.can_log_in("root", root["_password"]):
            raise SystemExit("root can still log in")
    with progress.step("one more heartbeat"):
        server.instance.wait_heartbeat()
    progress.note(f"status: {server.instance.status()}")


def _keep(server: Server, progress: Progress) -> None:
    progress.heading("The guest stays until Ctrl-C")
    progress.note("a shell in it:   " + shlex.join(server.guest.container.enter(["bash", "-l"])))
    progress.note("the agent's log: " + shlex.join(server.guest.container.enter(["journalctl", "-fu", "trove-guestagent"])))
    password = server.secrets[-1]
    progress.note(f"the database:    mariadb -h {server.guest.address} -u bob -p{password} shop")
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev/demo", description="A guest from nothing to ACTIVE, on this machine.")
    parser.add_argument("datastore", nargs="?", choices=sorted(KINDS), default="mariadb")
    parser.add_argument("--keep", action="store_true", help="leave the guest running until Ctrl-C")
    return parser.parse_args()


if __name__ == "__main__":
    main()
