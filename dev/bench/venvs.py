"""Two Python environments with Trove, made once and cached: the controller's client of the benchmarks, and Trove 12.1.0.

`python3 -m bench.venvs` prints the Python of the latter. Standard library only: this module runs before any environment exists.
"""

import contextlib
import fcntl
import hashlib
import pathlib
import shutil
import subprocess
import sys

CACHE = pathlib.Path("/var/cache/trove-guestagent-dev")
CONSTRAINTS = pathlib.Path(__file__).resolve().parents[2] / "benches/agent/constraints.txt"
COMPLETE = "recipe-complete"

CONTROLLER_TROVE = "trove==26.0.0"
AGENT_TROVE = "trove==12.1.0"
# What 12.1.0 wants besides (or instead of) the dependencies of 26.0.0.
AGENT_EXTRAS = ("SQLAlchemy==1.3.24", "six", "pexpect", "passlib", "legacycrypt")
# Trove 12.1.0 imports cinderclient.v2, which cinderclient dropped; a guest never calls it.
CINDERCLIENT_V2 = {
    "cinderclient/v2/__init__.py": "",
    "cinderclient/v2/client.py": "from cinderclient.v3.client import *  # noqa: F401,F403\n",
}


def controller() -> pathlib.Path:
    """Path of the environment with Trove 26.0.0 and the oslo.messaging it brings."""
    return _ensure("controller", [[CONTROLLER_TROVE]], {})


def python_agent() -> pathlib.Path:
    """Path of the environment with Trove 12.1.0: the Python guest agent, and the guest API of its controller."""
    steps = [
        [CONTROLLER_TROVE],
        [*AGENT_EXTRAS],
        ["--no-deps", AGENT_TROVE],
    ]
    return _ensure("python-agent", steps, CINDERCLIENT_V2)


def _ensure(name: str, pip_steps: list[list[str]], files: dict[str, str]) -> pathlib.Path:
    recipe = repr((sys.executable, sys.version, pip_steps, files, CONSTRAINTS.read_text()))
    key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    venv = CACHE / f"venv-{name}-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(CACHE / f"venv-{name}-{key}.lock"):
        if not (venv / COMPLETE).exists():
            print(f"making {venv}", file=sys.stderr, flush=True)
            _make(venv, pip_steps, files)
    return venv


def _make(venv: pathlib.Path, pip_steps: list[list[str]], files: dict[str, str]) -> None:
    if venv.exists():  # Left by a run that was cut off.
        shutil.rmtree(venv)
    _check_call([sys.executable, "-m", "venv", str(venv)])
    for step in pip_steps:
        _check_call([str(venv / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", "-c", str(CONSTRAINTS), *step])
    (site_packages,) = venv.glob("lib/python3*/site-packages")
    for relative, text in files.items():
        path = site_packages / relative
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    # The first start must not pay for compiling what pip did not install.
    _check_call([str(venv / "bin/python"), "-m", "compileall", "-q", str(site_packages / "cinderclient")])
    (venv / COMPLETE).touch()


def _check_call(command: list[str]) -> None:
    # pip warns on standard error that 12.1.0 conflicts with 26.0.0's wishes: the recipe wants just that, so the output
    # is shown only on failure.
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}")


@contextlib.contextmanager
def _locked(path: pathlib.Path):
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    print(python_agent() / "bin/python")
