"""Waiting with a deadline. Nothing in the bench sleeps for a fixed time to let something settle."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

SERVER_PORTS = (20_000, 32_000)
# How often a condition is looked at again, in seconds.
POLL_SECONDS = 0.1


class Overdue(AssertionError):
    """What was waited for did not come in time."""


def wait_until(
    what: str,
    condition: Callable[[], Value],
    timeout: float,
    explain: Callable[[], str] | None = None,
    each: Callable[[], None] | None = None,
) -> Value:
    """Returns the first true value of `condition`; raises `Overdue` naming `what` after `timeout` seconds.

    `each` runs before every look (a live progress line, a check that a process is still there); `explain` is asked
    once, when time is up, for what a person wants to read then.
    """
    deadline = time.monotonic() + timeout
    while True:
        if each is not None:
            each()
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            detail = f"\n{explain()}" if explain is not None else ""
            raise Overdue(f"{what}: not within {timeout:g} s (last value: {value!r}){detail}")
        time.sleep(POLL_SECONDS)


_given: set[int] = set()


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on at this moment.

    Below those that the kernel gives to clients: while a server is away, a client that tries again and again would sooner
    or later be given the server's port, and be connected to itself. Never the same twice: some servers share a port without a word.
    """
    while True:
        port = random.randrange(*SERVER_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            _given.add(port)
            return port


def tcp_open(host: str, port: int, timeout: float = 1.0) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=timeout):
            return True
    except OSError:
        return False
