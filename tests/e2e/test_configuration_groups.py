"""Configuration groups on running instances: the calls of the controller, in its order (trove/instance/models.py: `attach_configuration`,
`update_configuration`, `detach_configuration`), and a flavor resize with a group attached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bench.controller import GuestCallFailed
from bench.deployment import Deployment, Server

GROUP = {"max_connections": 77, "long_query_time": 2.5, "sort_buffer_size": 2097152, "init_connect": "SET @a = 'x # y'"}
FILES = "/etc/mysql/conf.d"


def variables(server: Server, *names: str) -> list[Any]:
    (row,) = server.query("owner", server.owner_password, "SELECT " + ", ".join(f"@@GLOBAL.{name}" for name in names))
    return list(row)


def files(server: Server) -> str:
    """Names and contents of everything but the data."""
    return server.guest.run(["grep", "--recursive", "--with-filename", "", "/etc/mysql/my.cnf", FILES])


def attach(server: Server, group: dict[str, Any]) -> None:
    """Attaches a group, or sends the whole of a changed one; all of its variables are dynamic."""
    server.instance.call("update_overrides", overrides=group)
    server.instance.call("apply_overrides", overrides=group)


def detach(server: Server) -> None:
    server.instance.call("update_overrides", overrides={}, remove=True)


def resize(deployment: Deployment, server: Server, memory_mb: int) -> None:
    """What the task manager has the guest do in a flavor resize."""
    server.instance.call("stop_db")
    server.instance.wait_status("shutdown", 60, server.guest.agent_log)
    contents = deployment.controller.render_template(server.instance, memory_mb)
    server.instance.call("start_db_with_conf_changes", config_contents=contents, ds_version=server.kind.version)
    server.wait_active()


@pytest.fixture
def bare(server: Server) -> Iterator[Server]:
    """A guest without a group, before and after."""
    detach(server)
    yield server
    detach(server)


def test_a_group_is_attached_changed_and_detached(bare: Server) -> None:
    base, before = variables(bare, *GROUP), files(bare)
    attach(bare, GROUP)
    assert variables(bare, *GROUP) == list(GROUP.values())
    changed = {"max_connections": 78, "long_query_time": 2.5}
    attach(bare, changed)
    assert variables(bare, *GROUP) == [78, 2.5, *base[2:]]
    bare.instance.call("restart")
    bare.wait_active()
    assert variables(bare, *GROUP) == [78, 2.5, *base[2:]]
    detach(bare)
    # The controller goes on with its template's value of what it knows to be dynamic.
    bare.instance.call("apply_overrides", overrides={"max_connections": base[0]})
    assert variables(bare, *GROUP) == base
    assert files(bare) == before
    # Nothing waits for a restart: the conductor would keep that.
    bare.wait_active()


@pytest.mark.parametrize(
    "bad", [{"max_connections": 99_999_999}, {"sql_mode": "NONSENSE"}, {"no_such_variable": 1}, {"default_storage_engine": "NOPE"}, {"socket": "/x"}]
)
def test_a_refused_value_changes_nothing(bare: Server, bad: dict[str, Any]) -> None:
    attach(bare, GROUP)
    before, values = files(bare), variables(bare, *GROUP)
    group = {"max_connections": 50, "wait_timeout": 60, **bad, "sort_buffer_size": 4194304, "long_query_time": 9}
    with pytest.raises(GuestCallFailed, match=next(iter(bad))):
        bare.instance.call("update_overrides", overrides=group)
    assert files(bare) == before
    # What only the running server refuses takes back what was set before it.
    with pytest.raises(GuestCallFailed, match="event_scheduler"):
        bare.instance.call("apply_overrides", overrides={"max_connections": 50, "event_scheduler": "NONSENSE", "long_query_time": 9})
    assert files(bare) == before
    assert variables(bare, *GROUP) == values


def test_a_resize_keeps_the_group(deployment: Deployment, bare: Server) -> None:
    attach(bare, GROUP)
    system = bare.guest.run(["cat", f"{FILES}/50-system-001-common.cnf"])
    resize(deployment, bare, 1024)
    try:
        assert variables(bare, *GROUP) == list(GROUP.values())
        assert bare.guest.run(["cat", f"{FILES}/50-system-001-common.cnf"]) == system
        # Detached, the instance has what the new template says.
        detach(bare)
        assert variables(bare, "max_connections") == [200]
        # The revert of a failed resize: the old template, without a restart, and then the server as the controller restarts it.
        attach(bare, GROUP)
        old = deployment.controller.render_template(bare.instance, 512)
        bare.instance.call("reset_configuration", configuration={"config_contents": old})
        assert variables(bare, *GROUP) == list(GROUP.values())
        detach(bare)
        assert variables(bare, "max_connections") == [100]
    finally:
        resize(deployment, bare, 512)


def test_what_needs_a_restart_is_told_to_the_controller(bare: Server) -> None:
    (base,) = variables(bare, "ft_min_word_len")
    bare.instance.call("update_overrides", overrides={"ft_min_word_len": 3})
    bare.instance.restart()
    bare.wait_active()
    assert variables(bare, "ft_min_word_len") == [3]
    detach(bare)
    bare.instance.wait_status("restart required", 60, bare.guest.agent_log)
    bare.instance.restart()
    bare.wait_active()
    assert variables(bare, "ft_min_word_len") == [base]
