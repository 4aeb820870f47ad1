"""The .rpm in a tree, by dnf and rpm themselves: what it needs is resolved from a repository, its scripts run, it is upgraded and erased. The tree is Debian's, since there is none of the
Fedora family on the test machines: a stand-in for the distribution's libraries provides by name what the tree has by file."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.command import CommandFailed, run
from bench.disk import Overlay
from bench.guest import UNIT
from bench.roots import base_root
from bench.session import Session
from built_packages import Packages

NAME = "trove-guestagent"
LOGROTATE = "etc/logrotate.d/trove-guestagent"
STATE = "var/lib/trove-guestagent"
DNF_SECONDS = 180.0
SPEC = """Name: {name}
Version: 1
Release: 1
Summary: stand-in
License: Apache-2.0
BuildArch: noarch
{relations}
%description
Stand-in.
%files
"""


class Tree:
    """A Debian root with the package manager of another family."""

    def __init__(self, session: Session, packages: Packages) -> None:
        self.root = Overlay(session, base_root("mariadb-10.11"), session.unique("rpm")).root
        self._work = session.subdirectory(session.unique("rpms"))
        self.repository = self._work / "repository"
        self.repository.mkdir()
        needed = [line.strip() for line in run(["rpm", "-qp", "--requires", str(packages.rpm)]).splitlines()]
        # A name with a version needs the same version; rpm's own features are rpm's.
        self.needed = [each for each in needed if not each.startswith("rpmlib(")]
        assert any(each.startswith("libssl.so.3") for each in self.needed) and "dbus" in self.needed

    def stand_in(self, name: str, *relations: str) -> None:
        spec = self._work / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, relations="\n".join(relations)))
        run(["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {self._work}/build", "--define", f"_rpmdir {self.repository}", str(spec)])

    def dnf(self, *arguments: str) -> str:
        run(["createrepo_c", "--quiet", str(self.repository)])
        options = ["--refresh", f"--installroot={self.root}", "--releasever=9", "--nogpgcheck", f"--repofrompath=here,{self.repository}", "--repo=here"]
        return run(["dnf", *options, "--assumeyes", *arguments], DNF_SECONDS)

    def systemctl(self, *arguments: str) -> str:
        return run(["chroot", str(self.root), "systemctl", *arguments], check=False).strip()


@pytest.fixture(scope="module")
def tree(session: Session, packages: Packages) -> Tree:
    return Tree(session, packages)


def test_dnf_says_what_is_missing_and_installs_nothing(tree: Tree, packages: Packages) -> None:
    with pytest.raises(CommandFailed, match="nothing provides .*dbus needed by trove-guestagent"):
        tree.dnf("install", str(packages.rpm))
    assert not (tree.root / "usr/bin/trove-guestagent").exists()


def test_dnf_resolves_what_it_needs_and_the_unit_is_enabled_and_not_started(tree: Tree, packages: Packages) -> None:
    tree.stand_in("distribution", *(f"Provides: {each}" for each in tree.needed))
    tree.dnf("install", str(packages.rpm))
    assert run(["rpm", "--root", str(tree.root), "-q", "--queryformat", "%{NAME} %{RELEASE}", NAME]) == f"{NAME} 1"
    assert run(["rpm", "--root", str(tree.root), "--verify", "--nodeps", NAME]) == ""
    assert tree.systemctl("is-enabled", UNIT) == "enabled"
    assert run(["chroot", str(tree.root), "trove-guestagent", "--version"]).startswith(NAME)
    assert not (tree.root / STATE).exists()


def test_an_upgrade_keeps_what_was_changed(tree: Tree, packages: Packages) -> None:
    changed = (tree.root / LOGROTATE).read_text().replace("weekly", "daily")
    (tree.root / LOGROTATE).write_text(changed)
    (tree.root / STATE).mkdir()
    tree.dnf("upgrade", str(packages.make("rpm", "--revision", "2")))
    assert run(["rpm", "--root", str(tree.root), "-q", "--queryformat", "%{RELEASE}", NAME]) == "2"
    assert (tree.root / LOGROTATE).read_text() == changed
    assert tree.systemctl("is-enabled", UNIT) == "enabled"


def test_the_agent_in_python_does_not_get_beside_it(tree: Tree) -> None:
    tree.stand_in("openstack-trove-guestagent")
    with pytest.raises(CommandFailed, match="conflicts with openstack-trove-guestagent"):
        tree.dnf("install", "openstack-trove-guestagent")


def test_what_is_erased_leaves_state_and_changed_configuration(tree: Tree) -> None:
    tree.dnf("remove", NAME)
    assert not (tree.root / "usr/bin/trove-guestagent").exists()
    assert tree.systemctl("is-enabled", UNIT) not in ("enabled", "enabled-runtime")
    assert (tree.root / STATE).is_dir()
    assert "daily" in (tree.root / f"{LOGROTATE}.rpmsave").read_text()
