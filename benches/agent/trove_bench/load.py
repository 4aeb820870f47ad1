"""Calls per second. One agent is up at a time, and the agents take turns: what saturates is the agent or the broker it
shares the machine with, never a second agent."""

import concurrent.futures
import json
import os
import pathlib
import resource
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass

from oslo_messaging.exceptions import MessagingTimeout

from .agents import Running
from .controller import call_template
from .errors import BenchError
from .measures import Bench, Contestant, PRODUCTION_REPORT_INTERVAL, quantiles

# Both agents answer these by themselves, without a database.
CALLS = {"rpc_ping": {}, "get_filesystem_stats": {"fs_path": None}}
OSLO = "oslo.messaging"
LEAN = "lean"
LOAD_SECONDS_MORE = 90  # Beyond the time asked for: what the lean client may take before it is given up.


@dataclass(frozen=True)
class Plan:
    """How hard, how long and how often; `program` is the lean client (../load.rs)."""

    program: pathlib.Path
    concurrency: int
    seconds: float
    rounds: int


def measure(bench: Bench, contestants: list[Contestant], plan: Plan, progress) -> dict[str, dict]:
    """`{client call: {contestant: figures}}`, each figure the median of the rounds. Seconds, but `calls_per_second`."""
    rows: dict[str, dict[str, list[dict]]] = {}
    for number in range(plan.rounds):
        for contestant in contestants:
            progress(f"throughput {number + 1} of {plan.rounds}: {contestant.label}")
            with bench.serving(contestant, PRODUCTION_REPORT_INTERVAL) as running:
                for name, figures in _one_round(bench, running, plan, progress):
                    rows.setdefault(name, {}).setdefault(contestant.label, []).append(figures)
    return {name: {label: _median(runs) for label, runs in labels.items()} for name, labels in rows.items()}


def _one_round(bench: Bench, running: Running, plan: Plan, progress):
    for method, arguments in CALLS.items():
        if running.agent.answers_everything_alike and method != "rpc_ping":
            continue
        yield f"{LEAN} {method}", _with_cpu(running, lambda: _lean(running, plan, method, arguments))
    try:
        yield f"{OSLO} rpc_ping", _with_cpu(running, lambda: _oslo(bench.controller.pinger(running.guest), plan))
    except MessagingTimeout:
        # The Python agent does that now and then after the lean client's load. The other rounds count.
        progress(f"{running.agent.name} left a call of oslo.messaging without an answer; this round has no figure of it")


def _lean(running: Running, plan: Plan, method: str, arguments: dict) -> dict:
    with tempfile.NamedTemporaryFile("w", prefix="trove-bench-", suffix=".json") as template:
        template.write(call_template(running.guest, method, arguments))
        template.flush()
        command = [plan.program, running.guest.amqp_uri, running.guest.queue, template.name,
                   str(plan.concurrency), str(plan.seconds)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=plan.seconds + LOAD_SECONDS_MORE)
        except subprocess.TimeoutExpired as late:
            raise running.error(f"did not answer {method} in time") from late
    if done.returncode != 0:
        raise running.error(f"did not answer {method}: {done.stderr.strip()}")
    figures = json.loads(done.stdout)
    return figures | {"calls_per_second": figures["calls"] / figures["seconds"]}


def _oslo(ping, plan: Plan) -> dict:
    """The real client: as many threads as calls under way."""
    latencies: list[float] = []
    ping()
    began_at = time.perf_counter()
    ends_at = began_at + plan.seconds

    def work() -> None:
        while time.perf_counter() < ends_at:
            called_at = time.perf_counter()
            ping()
            latencies.append(time.perf_counter() - called_at)

    with concurrent.futures.ThreadPoolExecutor(plan.concurrency) as threads:
        for thread in [threads.submit(work) for _ in range(plan.concurrency)]:
            thread.result()
    elapsed = time.perf_counter() - began_at
    if len(latencies) < 2:
        raise BenchError(f"{len(latencies)} calls were answered in {elapsed:.0f} s")
    return quantiles(latencies) | {"calls": len(latencies), "seconds": elapsed, "calls_per_second": len(latencies) / elapsed}


def _with_cpu(running: Running, run) -> dict:
    """The figures of `run`, and the processor time of agent and client per call, warm-up included (so a little high)."""
    agent, client = _cpu_of(running), _cpu_of_client()
    figures = run()
    running.require_alive()
    return figures | {
        "agent_cpu": (_cpu_of(running) - agent) / figures["calls"],
        "client_share": (_cpu_of_client() - client) / figures["seconds"],
    }


def _cpu_of(running: Running) -> float:
    fields = pathlib.Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(fields[11]), int(fields[12])  # proc(5): utime and stime, counted from the state.
    return (user + system) / os.sysconf("SC_CLK_TCK")


def _cpu_of_client() -> float:
    """Of this process and of the lean clients it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _median(runs: list[dict]) -> dict:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]} | {"runs": runs}
