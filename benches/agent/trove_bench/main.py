"""One run: broker, contestants, measures, report. Runs inside the controller's environment (see ../run)."""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import secrets
import sys

from . import load, report
from .agents import EmptyReply, PythonAgent, RustAgent
from .broker import Broker
from .controller import Conductor, Controller, encrypted_true
from .errors import BenchError
from .measures import Bench, Contestant

MEASURES = ("start", "rest", "ping", "load")
VERSIONS = ("trove", "oslo.messaging", "kombu", "amqp")


def main(arguments: list[str]) -> int:
    """Runs the benchmark. Exit status 0 if every figure was taken, 1 otherwise."""
    options = _parse(arguments)
    try:
        results = _measure(options)
    except BenchError as error:
        print(f"failed to measure: {error}", file=sys.stderr)
        return 1
    print(report.table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benches/agent/run", description="Measures guest agents side by side.")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write every figure to FILE")
    parser.add_argument("--starts", type=int, default=9, metavar="N", help="starts of each agent (default %(default)s)")
    parser.add_argument("--calls", type=int, default=1000, metavar="N", help="rpc_ping calls (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds of throughput (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=4, metavar="S",
                        help="of throughput, for each agent, call and round (default %(default)s)")
    parser.add_argument("--concurrency", type=int, default=32, metavar="N",
                        help="calls under way at a time while throughput is measured (default %(default)s)")
    parser.add_argument("--measures", default=",".join(MEASURES), metavar="NAMES", help="of %(default)s")
    parser.add_argument("--only", default="python,rust,floor", metavar="NAMES",
                        help="contestants, of %(default)s; what is left out is reported as not measured")
    parser.add_argument("--python-venv", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--agent", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--empty-reply", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--load", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.starts < 1 or options.calls < 2:
        parser.error("--starts must be at least 1, --calls at least 2")
    if options.rounds < 1 or options.concurrency < 1 or options.seconds <= 0:
        parser.error("--rounds, --concurrency and --seconds must be more than 0")
    if unknown := sorted(set(options.measures.split(",")) - set(MEASURES)):
        parser.error(f"unknown measure {', '.join(unknown)}: choose among {', '.join(MEASURES)}")
    return options


def _measure(options: argparse.Namespace) -> dict:
    contestants = _contestants(options)
    with Broker() as broker:
        controller = Controller(broker)
        conductor = Conductor(broker)
        conductor.start()
        try:
            bench = Bench(broker, controller, conductor, encryption_key=secrets.token_hex(16))
            plan = load.Plan(options.load, options.concurrency, options.seconds, options.rounds)
            takers = {
                "start": lambda: bench.starts(contestants, options.starts, _progress),
                "rest": lambda: bench.rest(contestants, _progress),
                "ping": lambda: bench.pings(contestants, options.calls, _progress),
                "load": lambda: load.measure(bench, contestants, plan, _progress),
            }
            asked = options.measures.split(",")
            return {
                "taken_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "machine": _machine(),
                "concurrency": options.concurrency,
            } | {name: take() if name in asked else {} for name, take in takers.items()}
        finally:
            conductor.stop()
            controller.close()


def _contestants(options: argparse.Namespace) -> list[Contestant]:
    known = {
        "python": lambda: PythonAgent(options.python_venv),
        "rust": lambda: RustAgent(options.agent),
        "floor": lambda: EmptyReply(options.empty_reply, encrypted_true),
    }
    names = options.only.split(",")
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise BenchError(f"unknown contestant {', '.join(unknown)}: choose among {', '.join(known)}")
    agents = [known[name]() for name in names]
    return [Contestant(agent, encrypted) for encrypted in (False, True) for agent in agents]


def _machine() -> dict:
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }


def _progress(step: str) -> None:
    print(step, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
