"""What is measured. Contestants take turns, so that a busy moment of the machine hits all of them alike."""

import contextlib
import statistics
import time
from dataclasses import asdict, dataclass

from . import memory
from .agents import Agent, Guest, Running
from .broker import Broker
from .controller import Conductor, Controller, EarlyPing

START_SECONDS = 60
POLL_SECONDS = 0.0005
PRODUCTION_REPORT_INTERVAL = 30  # Trove's default.
REST_REPORT_INTERVAL = 3
REST_SECONDS = 10
# The Python agent spaces its status heartbeats by 60 s whatever report_interval says, the first included.
HEARTBEAT_SECONDS = 90
WARM_UP_PINGS = 50
PINGS_PER_TURN = 50


@dataclass(frozen=True)
class Contestant:
    """An agent with or without encrypted RPC."""

    agent: Agent
    encrypted: bool

    @property
    def label(self) -> str:
        """Key of its results."""
        return f"{self.agent.name}-{'encrypted' if self.encrypted else 'plain'}"


class Bench:
    """One run against one broker."""

    def __init__(self, broker: Broker, controller: Controller, conductor: Conductor, encryption_key: str) -> None:
        self._broker = broker
        self.controller = controller
        self._conductor = conductor
        self._encryption_key = encryption_key

    def starts(self, contestants: list[Contestant], repetitions: int, progress) -> dict[str, dict]:
        """Process spawn until the queue has a consumer, and until a call that waited there is answered. Seconds.

        One more round than `repetitions`: the first fills the page cache and does not count."""
        rows: dict[str, list[dict]] = {contestant.label: [] for contestant in contestants}
        for repetition in range(repetitions + 1):
            progress(f"start {repetition} of {repetitions}")
            for contestant in contestants:
                row = self._start_once(contestant)
                if repetition > 0:
                    rows[contestant.label].append(row)
        return {label: _summarize_starts(runs) for label, runs in rows.items()}

    def rest(self, contestants: list[Contestant], progress) -> dict[str, dict]:
        """Memory `REST_SECONDS` after the start, or after the first heartbeat if that is later: the first one loads code.
        One agent at a time: two of a kind would share pages and look smaller. Bytes."""
        result = {}
        for contestant in contestants:
            progress(f"at rest: {contestant.label}")
            with self.serving(contestant, REST_REPORT_INTERVAL) as running:
                time.sleep(REST_SECONDS)  # The measure itself, not a wait for something to settle.
                if contestant.agent.sends_heartbeats:
                    self._await_heartbeat(running)
                running.require_alive()
                result[contestant.label] = asdict(memory.of_tree(running.process.pid))
        return result

    def pings(self, contestants: list[Contestant], calls: int, progress) -> dict[str, dict]:
        """Round trips of `rpc_ping`, all contestants up at once and called in turns of `PINGS_PER_TURN`. Seconds."""
        seconds: dict[str, list[float]] = {contestant.label: [] for contestant in contestants}
        with contextlib.ExitStack() as stack:
            pingers = {}
            pids = {}
            for contestant in contestants:
                running = stack.enter_context(self.serving(contestant, PRODUCTION_REPORT_INTERVAL))
                pingers[contestant.label] = self.controller.pinger(running.guest)
                pids[contestant.label] = running.process.pid
            for ping in pingers.values():
                _time_calls(ping, WARM_UP_PINGS)
            for done in range(0, calls, PINGS_PER_TURN):
                progress(f"rpc_ping {done} of {calls}")
                for label, ping in pingers.items():
                    seconds[label] += _time_calls(ping, min(PINGS_PER_TURN, calls - done))
            # Private memory: of what they share, none has its true part while all are up.
            private = {label: memory.of_tree(pid).uss for label, pid in pids.items()}
        return {label: _summarize_pings(values) | {"uss_after": private[label]} for label, values in seconds.items()}

    @contextlib.contextmanager
    def serving(self, contestant: Contestant, report_interval: int):
        """A contestant that consumes its queue."""
        with self._running(contestant, report_interval) as running:
            running.start()
            self._await_consumer(running)
            yield running

    @contextlib.contextmanager
    def _running(self, contestant: Contestant, report_interval: int):
        """A contestant that is ready to start, with its queue as the controller makes it."""
        key = self._encryption_key if contestant.encrypted else None
        guest = Guest(self._broker.transport_url, self._broker.amqp_uri, report_interval, key)
        self.controller.create_queue(guest)
        try:
            with contestant.agent.directory(guest) as directory, Running(contestant.agent, guest, directory) as running:
                yield running
        finally:
            self.controller.delete_queue(guest)

    def _start_once(self, contestant: Contestant) -> dict:
        with self._running(contestant, PRODUCTION_REPORT_INTERVAL) as running:
            early = EarlyPing(self.controller, running.guest)
            early.start()
            self._await_message(running)
            spawned_at = time.perf_counter()
            running.start()
            consuming_at, resolution = self._await_consumer(running)
            return {
                "consuming": consuming_at - spawned_at,
                "answering": early.answered_at() - spawned_at,
                "resolution": resolution,
            }

    def _await_message(self, running: Running) -> None:
        """Waits until the early call is in the queue."""
        deadline = time.perf_counter() + START_SECONDS
        while self.controller.queue_state(running.guest)[0] == 0:
            if time.perf_counter() > deadline:
                raise running.error("was not started: the call meant for it did not reach its queue")
            time.sleep(POLL_SECONDS)

    def _await_heartbeat(self, running: Running) -> None:
        deadline = time.perf_counter() + HEARTBEAT_SECONDS
        while self._conductor.heartbeats(running.guest) == 0:
            running.require_alive()
            if time.perf_counter() > deadline:
                raise running.error(f"sent no heartbeat within {REST_SECONDS + HEARTBEAT_SECONDS} s")
            time.sleep(0.1)

    def _await_consumer(self, running: Running) -> tuple[float, float]:
        """When the queue was seen to have a consumer, and the seconds since it was last seen to have none."""
        deadline = time.perf_counter() + START_SECONDS
        last_without = time.perf_counter()
        while True:
            asked_at = time.perf_counter()
            _messages, consumers = self.controller.queue_state(running.guest)
            now = time.perf_counter()
            if consumers > 0:
                return now, now - last_without
            running.require_alive()
            if now > deadline:
                raise running.error(f"did not consume its queue within {START_SECONDS} s")
            last_without = asked_at
            time.sleep(POLL_SECONDS)


def _time_calls(call, count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        began_at = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began_at)
    return seconds


def _summarize_starts(runs: list[dict]) -> dict:
    consuming = [run["consuming"] for run in runs]
    return {
        "consuming_median": statistics.median(consuming),
        "consuming_max": max(consuming),
        "answering_median": statistics.median(run["answering"] for run in runs),
        "resolution_median": statistics.median(run["resolution"] for run in runs),
        "resolution_worst": max(run["resolution"] for run in runs),
        "runs": runs,
    }


def _summarize_pings(seconds: list[float]) -> dict:
    spread = quantiles(seconds)
    return {"median": spread["p50"], "p99": spread["p99"], "calls": len(seconds)}


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {
        "p50": statistics.median(seconds),
        "p99": statistics.quantiles(seconds, n=100, method="inclusive")[98],
    }
