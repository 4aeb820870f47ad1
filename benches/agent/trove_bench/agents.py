"""The contestants: how each is started and which files it reads. A contestant knows nothing of what is measured."""

import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field

from .errors import BenchError

STOP_SECONDS = 20
CONTROL_EXCHANGE = "trove"


@dataclass(frozen=True)
class Guest:
    """What the controller decides of an instance and writes into its configuration files."""

    transport_url: str
    amqp_uri: str
    report_interval: int  # Seconds.
    encryption_key: str | None  # 32 characters; None is unencrypted RPC.
    guest_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def queue(self) -> str:
        """The queue that every call to this guest goes to."""
        return f"guestagent.{self.guest_id}"


class Agent:
    """One contestant: a name, a command line, configuration files."""

    name: str
    sends_heartbeats = True
    answers_everything_alike = False
    # Options that this contestant alone needs in [DEFAULT] of trove-guestagent.conf.
    own_options: dict[str, str] = {}

    def command(self, guest: Guest, directory: pathlib.Path) -> list[str]:
        """The command line that serves `guest` with the files in `directory`."""
        raise NotImplementedError

    def write_files(self, guest: Guest, directory: pathlib.Path) -> None:
        """Writes what Trove injects at boot."""
        conf_d = directory / "conf.d"
        conf_d.mkdir()
        info = {"guest_id": guest.guest_id, "datastore_manager": "mysql", "tenant_id": "bench"}
        if guest.encryption_key:
            info["instance_rpc_encr_key"] = guest.encryption_key
        options = {
            "transport_url": guest.transport_url,
            "control_exchange": CONTROL_EXCHANGE,
            "report_interval": str(guest.report_interval),
            "log_dir": str(directory),
            "log_file": "agent.log",
        }
        own = {name: value.format(directory=directory) for name, value in self.own_options.items()}
        _write_ini(conf_d / "guest_info.conf", info)
        _write_ini(conf_d / "trove-guestagent.conf", options | own, mysql={"mount_point": str(directory)})

    def mark_prepared(self, directory: pathlib.Path) -> None:
        """Leaves what a finished `prepare` leaves behind: without it a guest sends no heartbeats."""

    @contextlib.contextmanager
    def directory(self, guest: Guest):
        """A home directory with the files of `guest`, removed at the end."""
        with tempfile.TemporaryDirectory(prefix=f"trove-bench-{self.name}-") as path:
            directory = pathlib.Path(path)
            self.write_files(guest, directory)
            self.mark_prepared(directory)
            yield directory


class PythonAgent(Agent):
    """Trove 12.1.0's trove-guestagent."""

    name = "python"

    def __init__(self, venv: pathlib.Path) -> None:
        self._program = venv / "bin/trove-guestagent"

    def command(self, guest: Guest, directory: pathlib.Path) -> list[str]:
        return [str(self._program), f"--config-dir={directory}/conf.d"]

    def mark_prepared(self, directory: pathlib.Path) -> None:
        (directory / ".guestagent.prepare.start").touch()
        (directory / ".guestagent.prepare.end").touch()


class RustAgent(Agent):
    """This project's trove-guestagent."""

    name = "rust"
    own_options = {"service_control": "process", "state_dir": "{directory}/state"}

    def __init__(self, program: pathlib.Path) -> None:
        if not os.access(program, os.X_OK):
            raise BenchError(f"{program} is not a program: set TROVE_AGENT_BIN to the agent's binary")
        self._program = program

    def command(self, guest: Guest, directory: pathlib.Path) -> list[str]:
        return [str(self._program), "--config-dir", f"{directory}/conf.d"]

    def mark_prepared(self, directory: pathlib.Path) -> None:
        state = directory / "state"
        state.mkdir(mode=0o700)
        (state / "status.json").write_text('{"phase": "active"}\n')


class EmptyReply(Agent):
    """The hand-made peer of empty_reply.rs: the floor of `rpc_ping`, and of what lapin costs."""

    name = "floor"
    sends_heartbeats = False
    answers_everything_alike = True

    def __init__(self, program: pathlib.Path, encrypt) -> None:
        self._program = program
        self._encrypt = encrypt

    def command(self, guest: Guest, directory: pathlib.Path) -> list[str]:
        result = f'"{self._encrypt(guest.encryption_key)}"' if guest.encryption_key else "true"
        # lapin keeps two rings of 32 frames and touches all of them in time: 8 MB with the broker's frame_max of 128 KiB.
        return [str(self._program), f"{guest.amqp_uri}?frame_max=16384", guest.queue, result]


class Running:
    """A started agent, ended with the `with` block."""

    def __init__(self, agent: Agent, guest: Guest, directory: pathlib.Path) -> None:
        self.agent = agent
        self.guest = guest
        self._directory = directory
        self._command = agent.command(guest, directory)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Spawns the process. Returns as soon as the kernel has it."""
        with (self._directory / "output.log").open("wb") as output:
            self.process = subprocess.Popen(self._command, cwd=self._directory, env=self._environment(),
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                            start_new_session=True)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_exception) -> None:
        if self.process is None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # The group: also what the agent left behind.
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def require_alive(self) -> None:
        """Raises with the end of the agent's own words if it has ended."""
        if self.process.poll() is not None:
            raise self.error(f"ended with status {self.process.returncode}")

    def error(self, what: str) -> BenchError:
        """An error about this agent that shows the end of its log."""
        logs = (self._directory / name for name in ("output.log", "agent.log"))
        tail = "".join(path.read_text(errors="replace")[-3000:] for path in logs if path.exists())
        return BenchError(f"agent '{self.agent.name}' {what}. The end of its log:\n{tail}")

    def _environment(self) -> dict[str, str]:
        # The Python agent keeps the markers of `prepare` in `~`.
        return {"PATH": os.environ["PATH"], "HOME": str(self._directory), "LANG": "C.UTF-8"}


def _write_ini(path: pathlib.Path, options: dict[str, str], **groups: dict[str, str]) -> None:
    sections = {"DEFAULT": options} | groups
    path.write_text("".join(
        f"[{section}]\n" + "".join(f"{name}={value}\n" for name, value in values.items())
        for section, values in sections.items()))
    path.chmod(0o600)
