"""The packages. The .deb on a guest: installed into its image, upgraded, removed and purged beside a database in service. There is no guest of the Fedora family
here: of the .rpm what it holds, its scripts and its relations are looked at; `test_package_rpm.py` installs it into a tree."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.command import run, run_full
from bench.deployment import MARIADB, Deployment, Server
from bench.guest import UNIT
from bench.session import REPOSITORY, Session
from bench.waiting import wait_until
from built_packages import Packages
from helpers import CAST_SECONDS, user_names

NAME = "trove-guestagent"
STATE = "/var/lib/trove-guestagent"
LOGROTATE = "/etc/logrotate.d/trove-guestagent"
ENABLED = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"
PROGRAMS = ("/usr/bin/trove-guestagent", "/usr/bin/trove-guestctl")
# What both packages have, at these paths. Completions of zsh have another place outside Debian.
COMMON = (
    *PROGRAMS,
    LOGROTATE,
    f"/usr/lib/systemd/system/{UNIT}",
    "/usr/lib/sysusers.d/trove-guestagent.conf",
    "/usr/lib/tmpfiles.d/trove-guestagent.conf",
    "/usr/share/man/man8/trove-guestagent.8.gz",
    "/usr/share/man/man8/trove-guestctl.8.gz",
    "/usr/share/man/man8/trove-guestctl-verify-backup.8.gz",
    "/usr/share/bash-completion/completions/trove-guestctl",
    "/usr/share/fish/vendor_completions.d/trove-guestagent.fish",
    "/usr/share/doc/trove-guestagent/changelog.gz",
)


@pytest.fixture(scope="module")
def unpacked(packages: Packages, session: Session) -> tuple[Path, Path]:
    """What each of the two installs."""
    trees = session.subdirectory("unpacked-deb"), session.subdirectory("unpacked-rpm")
    run(["dpkg-deb", "--extract", str(packages.deb), str(trees[0])])
    options = ["--root", str(trees[1]), "--nodeps", "--noscripts", "--nosignature", "--force-debian"]
    run(["rpm", *options, "--install", "--ignoreos", str(packages.rpm)])
    return trees


@pytest.fixture(scope="module")
def guest(deployment: Deployment, packages: Packages) -> Iterator[Server]:
    """Booted from an image that has the package, and prepared."""
    server = deployment.place(MARIADB, package=packages.deb)
    assert server.guest.disk.inside(ENABLED).is_symlink(), "enabled in the image"
    assert not server.guest.disk.inside(STATE).exists(), "and not started"
    server.guest.boot()
    deployment.wait_consumed(server)
    server.owner_password = server.secret()
    owner = {"name": "owner", "password": server.owner_password, "host": "%", "databases": [{"name": "first"}]}
    server.prepare([{"name": "first"}], [owner])
    server.query("owner", server.owner_password, "CREATE TABLE t (i INT)", database="first")
    server.query("owner", server.owner_password, "INSERT INTO t VALUES (4711)", database="first")
    yield server
    server.guest.container.stop()


def data(server: Server) -> tuple[tuple[object, ...], ...]:
    """What the user has in the database, which serves meanwhile."""
    return tuple(server.query("owner", server.owner_password, "SELECT i FROM t", database="first"))


def listing(server: Server, path: str) -> list[str]:
    return server.guest.run(["find", path, "-mindepth", "1"], check=False).split()


def test_an_image_with_the_package_boots_with_the_agent_in_service(guest: Server) -> None:
    system = guest.guest
    assert system.run(["systemctl", "show", "--property=FragmentPath", "--value", UNIT]).strip().endswith(f"/lib/systemd/system/{UNIT}")
    assert system.run(["dpkg", "--verify", NAME]) == ""
    assert system.run(["dpkg-query", "--show", "--showformat=${Version} ${Conffiles}", NAME]).startswith("2:")
    assert user_names(guest) == ["owner"]


def test_an_upgrade_restarts_the_agent_and_keeps_what_was_changed(guest: Server, packages: Packages) -> None:
    system, agent = guest.guest, guest.guest.agent_pid()
    changed = system.read(LOGROTATE).replace("weekly", "daily")
    system.run(["tee", LOGROTATE], stdin=changed)
    database = system.run(["pidof", "mariadbd"])
    newer = packages.make("deb", "--revision", "2")
    install(guest, newer)
    wait_until("another agent", lambda: system.agent_pid() not in (0, agent), CAST_SECONDS, system.agent_log)
    assert system.run(["dpkg-query", "--show", "--showformat=${Version}", NAME]).endswith("-2")
    assert system.read(LOGROTATE) == changed
    assert user_names(guest) == ["owner"]
    assert system.run(["pidof", "mariadbd"]) == database


def install(server: Server, package: Path) -> None:
    inside = f"/root/{package.name}"
    with package.open("rb") as source:
        command = server.guest.container.enter(["install", "-m", "644", "/dev/stdin", inside])
        subprocess.run(command, stdin=source, check=True, timeout=60)
    server.guest.run(["dpkg", "--install", inside], timeout=120)


def test_it_takes_over_in_place_by_the_steps_of_the_manual_and_gives_back(guest: Server) -> None:
    """What the Python agent of Train leaves: an account of root's in root's option file (trove/guestagent/datastore/mysql_common/service.py,
    `_generate_root_password`), and nothing of this agent. That agent itself does not run with a server of today."""
    system, database = guest.guest, guest.guest.run(["pidof", "mariadbd"])
    password = guest.secret()
    account = f"CREATE OR REPLACE USER root@localhost IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO root@localhost WITH GRANT OPTION"
    system.run(["mariadb", f"--defaults-file={STATE}/os_admin.cnf"], stdin=account)
    system.run(["install", "-m", "600", "/dev/stdin", "/root/.my.cnf"], stdin=f"[client]\nuser = root\npassword = {password}\nhost = localhost\n")
    system.run(["systemctl", "disable", "--now", UNIT])
    system.run(["rm", "-r", STATE])
    steps = re.search(r"```\n(.*?)```", (REPOSITORY / "docs/migrating.md").read_text(), re.DOTALL)
    assert steps
    system.run(["bash", "-eu"], stdin=steps[1])
    system.run(["systemctl", "enable", "--now", UNIT])
    assert user_names(guest) == ["owner"]
    guest.wait_active()
    assert "Nothing is broken" in system.run(["trove-guestctl", "doctor"])
    assert data(guest) == ((4711,),)
    # Back: the account of the other agent is as it was.
    system.run(["systemctl", "disable", "--now", UNIT])
    assert system.run(["mariadb", "--batch", "--skip-column-names", "--execute=SELECT CURRENT_USER()"]).strip() == "root@localhost"
    assert system.run(["pidof", "mariadbd"]) == database
    # And forth again: it goes on with what it remembers.
    system.run(["systemctl", "enable", "--now", UNIT])
    assert user_names(guest) == ["owner"]


def test_what_is_removed_goes_on_when_it_is_installed_again(guest: Server, packages: Packages) -> None:
    system = guest.guest
    state, changed = system.read(f"{STATE}/status.json"), system.read(LOGROTATE)
    system.run(["dpkg", "--remove", NAME], timeout=120)
    assert system.run(["pidof", "trove-guestagent"], check=False) == ""
    assert not any(system.disk.inside(program).exists() for program in PROGRAMS)
    assert system.run(["systemctl", "is-enabled", UNIT], check=False).strip() in ("masked", "not-found")
    assert (system.read(f"{STATE}/status.json"), system.read(LOGROTATE)) == (state, changed)
    assert data(guest) == ((4711,),)
    install(guest, packages.deb)
    # Two agents must not share a queue: who installs decides when.
    assert system.agent_pid() == 0
    assert system.run(["systemctl", "is-enabled", UNIT]).strip() == "enabled"
    system.run(["systemctl", "start", UNIT])
    assert user_names(guest) == ["owner"]
    assert system.read(LOGROTATE) == changed


def test_purging_takes_the_agent_s_memory_and_nothing_else(guest: Server) -> None:
    system = guest.guest
    kept = f"{STATE}/backups/somebody-keeps-them-here"
    system.run(["install", "-D", "/dev/null", kept])
    system.run(["install", "-D", "/dev/null", f"{STATE}/modules/ping/contents"])
    injected = listing(guest, "/etc/trove")
    system.run(["dpkg", "--purge", NAME], timeout=120)
    assert listing(guest, STATE) == [f"{STATE}/backups", kept]
    assert not system.disk.inside(LOGROTATE).exists()
    assert not system.disk.inside(ENABLED).is_symlink()
    assert injected and listing(guest, "/etc/trove") == injected
    # Of the agent, the server's own configuration is left as well.
    system.run(["systemctl", "restart", MARIADB.unit])
    assert data(guest) == ((4711,),)


def test_both_packages_have_the_same_files(unpacked: tuple[Path, Path]) -> None:
    deb, rpm = unpacked
    for path in COMMON:
        inside = path.lstrip("/")
        assert (rpm / inside).is_file(), path
        # cargo-deb strips programs.
        if path not in PROGRAMS:
            assert (deb / inside).read_bytes() == (rpm / inside).read_bytes(), path
        for tree in unpacked:
            status = (tree / inside).stat()
            assert (status.st_uid, status.st_gid) == (0, 0)
            assert status.st_mode & 0o777 == (0o755 if path in PROGRAMS else 0o644), path
    assert (deb / "usr/share/zsh/vendor-completions/_trove-guestctl").is_file()
    assert (rpm / "usr/share/zsh/site-functions/_trove-guestctl").is_file()
    assert "Apache-2.0" in (deb / f"usr/share/doc/{NAME}/copyright").read_text()
    assert "Apache License" in (rpm / f"usr/share/doc/{NAME}/LICENSE").read_text()


def test_manual_pages_and_completions_are_of_this_command_line(unpacked: tuple[Path, Path]) -> None:
    tree = unpacked[0]
    for page in sorted((tree / "usr/share/man/man8").iterdir()):
        text = gzip.decompress(page.read_bytes()).decode()
        assert text.startswith((".ie", ".TH")) and f".TH {page.name.removesuffix('.8.gz')} 8" in text, page.name
    page = gzip.decompress((tree / "usr/share/man/man8/trove-guestctl-verify-backup.8.gz").read_bytes()).decode()
    assert "restore drill" in page and "scratch\\-dir" in page
    script = tree / "usr/share/bash-completion/completions/trove-guestctl"
    # Bash knows the function by the program's name.
    function = "$(complete -p trove-guestctl | sed 's/.* -F //; s/ .*//')"
    words = "COMP_WORDS=(trove-guestctl doctor --js); COMP_CWORD=2"
    complete = f"source {script}; {words}; {function} trove-guestctl --js doctor; echo ${{COMPREPLY[@]}}"
    assert run(["bash", "-c", complete]).split() == ["--json"]


def test_the_list_of_what_is_inside_is_that_of_the_lock_file(packages: Packages) -> None:
    document = json.loads(packages.sbom.read_text())
    assert (document["bomFormat"], document["metadata"]["component"]["name"]) == ("CycloneDX", NAME)
    listed = {(part["name"], part["version"]): part for part in document["components"]}
    locked = {(part["name"], part["version"]): part for part in tomllib.loads((REPOSITORY / "Cargo.lock").read_text())["package"]}
    assert set(listed) < set(locked)
    # What this machine's build is made of, and neither what only tests need nor what only another system does.
    names = {name for name, _ in listed}
    assert {"tokio", "lapin", "openssl", "openssl-sys", "mongodb", "bson"} <= names
    assert not names & {NAME, "proptest", "windows-sys", "rustls", "ring", "aws-lc-rs"}
    for crate, part in listed.items():
        assert part["licenses"], crate
        assert part["purl"].startswith(f"pkg:cargo/{crate[0]}@"), crate
        assert [entry["content"] for entry in part["hashes"] if entry["alg"] == "SHA-256"] == [locked[crate]["checksum"]], crate
    assert str(REPOSITORY) not in packages.sbom.read_text()


def test_the_rpm_by_its_lists_and_scripts_and_a_trial_without_a_guest_of_the_fedora_family(packages: Packages, session: Session) -> None:
    rpm = str(packages.rpm)
    assert run(["rpm", "-qp", "--configfiles", rpm]).split() == [LOGROTATE]
    assert "openstack-trove-guestagent" in run(["rpm", "-qp", "--conflicts", rpm])
    requires = run(["rpm", "-qp", "--requires", rpm])
    assert "libssl.so.3" in requires and "libc.so.6" in requires
    scripts = run(["rpm", "-qp", "--scripts", rpm])
    for heading, words in {
        "postinstall": "systemctl --no-reload preset trove-guestagent.service",
        "preuninstall": "systemctl --no-reload disable --now trove-guestagent.service",
        "postuninstall": "systemctl try-restart trove-guestagent.service",
    }.items():
        part = scripts.split(f"{heading} scriptlet")[1].split(" scriptlet")[0]
        assert words in part, heading
    assert "/var/lib" not in scripts, "erasing it leaves all state"
    trial = ["--root", str(session.subdirectory("rpm-trial")), "--test", "--install", "--ignoreos", "--nosignature", "--force-debian", rpm]
    judged = run_full(["rpm", *trial], check=False)
    # A root without a system lacks what it needs, and nothing else is wrong.
    wrong = [line for line in judged.stderr.splitlines() if line.strip() and "is needed by" not in line and "Failed dependencies" not in line]
    assert judged.returncode != 0 and not wrong, judged.stderr
    assert run(["rpm", *trial[:-1], "--nodeps", rpm]) == ""
