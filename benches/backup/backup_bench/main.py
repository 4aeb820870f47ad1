"""Runs the contestants in turns and prints medians and ratios."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from backup_bench import database, pipelines
from backup_bench.latency import Foreground
from backup_bench.pipelines import Outcome
from bench.session import Session
from bench.swift import Swift


def median(outcomes: list[Outcome]) -> float:
    return statistics.median(outcome.seconds for outcome in outcomes)


def content_size(backup: Path) -> int:
    return pipelines.stock_restore(backup).size


def speed(arguments: argparse.Namespace, server: database.Database, home: Path) -> dict[str, object]:
    """Backup and restore of one dump, in turns."""
    dump, backup = server.dump(), home / "backup"
    pipelines.stock(dump, backup)
    size, md5 = content_size(backup), pipelines.md5_of(backup)
    contestants = {
        "stock": lambda: pipelines.stock(dump),
        "python agent": lambda: pipelines.python_agent(dump),
        "this agent": lambda: pipelines.ours(arguments.stream, server, home, arguments.rate),
        "stock restore": lambda: pipelines.stock_restore(backup),
        "this restore": lambda: pipelines.our_restore(arguments.stream, backup, md5),
    }
    runs: dict[str, list[Outcome]] = {name: [] for name in contestants}
    for _ in range(arguments.rounds):
        for name, work in contestants.items():
            runs[name].append(pipelines.measured(work))
    for name in ("stock restore", "this restore"):
        if {outcome.size for outcome in runs[name]} != {size}:
            raise AssertionError(f"{name} did not give back {size} bytes")
    print(f"{size / 1e6:.0f} MB of dump; medians of {arguments.rounds} rounds")
    for name, outcomes in runs.items():
        cpu = statistics.median(outcome.cpu for outcome in outcomes)
        print(f"{name:16} {median(outcomes):7.2f} s {size / median(outcomes) / 1e6:7.1f} MB/s, processors {cpu:.2f} s")
    stored = {name: statistics.median(outcome.size for outcome in runs[name]) for name in ("stock", "this agent")}
    ratios = {
        "pipeline: stock / this (goal: >= 4)": median(runs["stock"]) / median(runs["this agent"]),
        "pipeline: python agent / this": median(runs["python agent"]) / median(runs["this agent"]),
        "restore: stock / this (goal: >= 2)": median(runs["stock restore"]) / median(runs["this restore"]),
        "output: this / stock (goal: <= 1.03)": stored["this agent"] / stored["stock"],
    }
    memory = max(outcome.pss for name in ("this agent", "this restore") for outcome in runs[name])
    print_all(ratios | {"PSS, MB (goal: < 64)": memory / 1e6})
    return {"content": size, "runs": {name: [vars(run) for run in outcomes] for name, outcomes in runs.items()}, "ratios": ratios}


def uploads(arguments: argparse.Namespace, server: database.Database, home: Path) -> dict[str, object]:
    """The Python agent's own upload and this one's, into one real Swift on this machine, in turns."""
    dump = server.dump()
    with Session() as session:
        swift = Swift(session).start()
        contestants = {
            "python agent": lambda: pipelines.python_upload(dump, swift, "python"),
            "this agent": lambda: pipelines.our_upload(arguments.stream, server, swift, "rust", home),
        }
        runs: dict[str, list[Outcome]] = {name: [] for name in contestants}
        for _ in range(arguments.rounds):
            for name, work in contestants.items():
                runs[name].append(pipelines.measured(work))
    for name, outcomes in runs.items():
        cpu = statistics.median(outcome.cpu for outcome in outcomes)
        print(f"into Swift, {name:12} {median(outcomes):7.2f} s, processors {cpu:.2f} s, {outcomes[0].size / 1e6:.1f} MB stored")
    ratios = {"into Swift: python agent / this": median(runs["python agent"]) / median(runs["this agent"])}
    print_all(ratios)
    return {"runs": {name: [vars(run) for run in outcomes] for name, outcomes in runs.items()}, "ratios": ratios}


def print_all(values: dict[str, float]) -> None:
    for name, value in values.items():
        print(f"  {name}: {value:.3f}")


def latency(arguments: argparse.Namespace, server: database.Database, home: Path) -> dict[str, dict[str, float]]:
    """The foreground alone, beside the stock pipeline, beside this agent with and without a spool: in turns, the samples of each put together."""
    dump = server.dump()
    load = {
        "idle": lambda: time.sleep(arguments.idle),
        "stock": lambda: pipelines.stock(dump),
        "this agent": lambda: pipelines.ours(arguments.stream, server, home, arguments.rate),
        "in memory": lambda: pipelines.ours(arguments.stream, server, None, arguments.rate),
        "full speed": lambda: pipelines.ours(arguments.stream, server, home, 0),
    }
    clients = {name: Foreground(server) for name in load}
    seconds: dict[str, list[float]] = {name: [] for name in load}
    for _ in range(arguments.rounds):
        for name, work in load.items():
            with clients[name]:
                clients[name].settle()
                started = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - started)
    found = {name: client.summary() for name, client in clients.items()}
    for name, values in found.items():
        values["seconds"] = statistics.median(seconds[name])
        print(f"latency in ms, {name:10} " + ", ".join(f"{what} {value:.2f}" for what, value in values.items()))
    return found


def memory(arguments: argparse.Namespace, home: Path) -> dict[str, object]:
    """PSS over a long stream, kept on disk and in memory."""
    found = {}
    for name, spool in (("spool", home), ("memory", None)):
        outcome = pipelines.synthetic(arguments.stream, arguments.synthetic, spool)
        print(f"{arguments.synthetic / 1e9:.1f} GB synthetic, segments in {name}: PSS {outcome.pss / 1e6:.1f} MB, {outcome.seconds:.0f} s")
        found[name] = vars(outcome)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="benches/backup/run", description=__doc__)
    parser.add_argument("--stream", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--megabytes", type=int, default=400, help="size of the dump")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=8 << 20, help="backup_rate_limit_in_use of this agent, in bytes a second")
    parser.add_argument("--only", choices=("speed", "uploads", "latency"), help="leave the others out")
    parser.add_argument("--idle", type=float, default=10, help="seconds the foreground is measured alone, each round")
    parser.add_argument("--synthetic", type=int, default=20 * 10**9, help="bytes of the long stream; 0 leaves it out")
    parser.add_argument("--json", type=Path, help="every single figure")
    arguments = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="trove-backup-bench-") as name, database.running() as server:
        home = Path(name)
        server.fill(arguments.megabytes)
        for name, measure in (("speed", speed), ("uploads", uploads), ("latency", latency)):
            if arguments.only in (None, name):
                found[name] = measure(arguments, server, home)
        if arguments.synthetic:
            found["memory"] = memory(arguments, home)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
