"""The server and the agent stop, start, crash and boot; what was prepared stays prepared."""

from __future__ import annotations

import pytest
from bench.deployment import Deployment, Server
from bench.oslo_peer import OsloPeer
from bench.waiting import wait_until


def uptime(server: Server) -> int:
    ((_, seconds),) = server.query("owner", server.owner_password, "SHOW GLOBAL STATUS LIKE 'Uptime'")
    return int(str(seconds))


def main_pid(server: Server) -> str:
    return server.guest.run(["systemctl", "show", "--property=MainPID", "--value", server.kind.unit]).strip()


def test_the_volume_is_measured(server: Server) -> None:
    volume = server.instance.call("get_volume_info")
    assert 0 < volume["used"] < volume["total"] <= server.guest.spec.volume_mb / 1024 + 0.01
    text = server.guest.run(["stat", "--file-system", "--format=%S %b %f %a", "/var/lib/mysql"])
    block, total, free, available = map(int, text.split())
    assert (volume["block_size"], volume["total_blocks"]) == (block, total)
    # The server writes while it is measured: the two may be some blocks apart.
    assert abs(volume["free_blocks"] - free) < total // 10
    assert abs(volume["avail_blocks"] - available) < total // 10


def test_the_guest_tells_about_itself(server: Server, peer: OsloPeer) -> None:
    hardware = peer.call(server.instance.id, "get_hwinfo", server.instance.key)
    assert hardware["num_cpus"] >= 1
    assert hardware["mem_total"] > 0
    diagnostics = peer.call(server.instance.id, "get_diagnostics", server.instance.key)
    assert set(diagnostics) >= {"version", "threads", "fd_size", "vm_size", "vm_peak", "vm_rss", "vm_hwm"}
    assert server.instance.call("rpc_ping") is True


def test_restart_is_a_new_process(server: Server) -> None:
    before = main_pid(server)
    server.instance.call("restart")
    assert main_pid(server) not in (before, "0")
    server.wait_active()


def test_the_server_stops_and_starts_with_another_configuration(deployment: Deployment, server: Server) -> None:
    server.instance.call("stop_db")
    assert main_pid(server) == "0"
    server.instance.wait_status("shutdown", 60, server.guest.agent_log)
    for memory, connections in ((1024, 200), (512, 100)):
        contents = deployment.controller.render_template(server.instance, memory)
        if memory == 512:
            server.instance.call("stop_db")
        server.instance.call("start_db_with_conf_changes", config_contents=contents, ds_version=server.kind.version)
        ((value,),) = server.query("owner", server.owner_password, "SELECT @@max_connections")
        assert value == connections
    server.wait_active()


@pytest.mark.parametrize("how", [["restart"], ["kill", "--signal=KILL", "--kill-whom=main"]], ids=["restart", "kill"])
def test_the_agent_comes_back_to_an_active_instance(server: Server, how: list[str]) -> None:
    database, agent = main_pid(server), server.guest.agent_pid()
    server.guest.run(["systemctl", *how, "trove-guestagent.service"])
    wait_until("another agent", lambda: server.guest.agent_pid() not in (0, agent), 60)
    assert server.instance.call("rpc_ping") is True
    server.instance.wait_heartbeat()
    assert server.instance.status() == "healthy"
    assert main_pid(server) == database, "the agent's end is not the database's"


def test_a_crashed_server_is_reported(server: Server) -> None:
    """With the unit's own restart out of the way, a dead server must be seen as such."""
    server.guest.run(["systemctl", "stop", server.kind.unit])
    wait_until("a status other than healthy", lambda: server.instance.status() in ("shutdown", "crashed"), 60)
    server.instance.call("restart")
    server.wait_active()


def test_the_guest_boots_again(deployment: Deployment, server: Server) -> None:
    server.guest.reboot()
    deployment.wait_consumed(server)
    server.instance.wait_heartbeat(90)
    server.wait_active()
    assert uptime(server) < 300
    assert server.instance.call("rpc_ping") is True
    assert any(mount["target"] == "/var/lib/mysql" for mount in server.guest.mounts())
