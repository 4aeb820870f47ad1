"""Trove 12.1.0 beside the controller: its real guest API, its real serializers."""

from __future__ import annotations

import os
from pathlib import Path

from .command import run
from .controller import Controller
from .session import REPOSITORY
from .worker import Worker

SCRIPT = Path(__file__).with_name("train_worker.py")
# Making the environment takes a while, on a machine that has none.
VENV_SECONDS = 900


def train_worker(controller: Controller) -> Worker:
    """A worker with Trove 12.1.0; `TROVE_TEST_TRAIN_PYTHON` names a Python that has it, else the cached environment is used, or made."""
    named = os.environ.get("TROVE_TEST_TRAIN_PYTHON")
    python = named or run(["/usr/bin/python3", str(REPOSITORY / "dev/bench/venvs.py")], timeout=VENV_SECONDS).strip()
    return controller.worker("train", Path(python), SCRIPT)
