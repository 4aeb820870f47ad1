"""The table: each measure, the contestants side by side, their ratios and the goal."""

from dataclasses import dataclass

MEGA = 1e6
MILLI = 1e-3
ABSENT = "not measured"


@dataclass(frozen=True)
class Row:
    """One line of the table. `path` leads to the figure in the results of a contestant."""

    title: str
    path: tuple[str, str]
    unit: str
    scale: float
    goal: float | None = None  # In `unit`; this agent is to stay below it.
    floor_goal: float | None = None  # Times the floor; likewise.


ROWS = (
    Row("start to consuming", ("start", "consuming_median"), "s", 1, goal=0.1),
    Row("start to first answer", ("start", "answering_median"), "s", 1),
    Row("PSS at rest", ("rest", "pss"), "MB", MEGA, goal=12),
    Row("private memory after the calls", ("ping", "uss_after"), "MB", MEGA),
    Row("rpc_ping median", ("ping", "median"), "ms", MILLI, goal=2, floor_goal=1.2),
    Row("rpc_ping p99", ("ping", "p99"), "ms", MILLI),
)


# Per client and call. Higher is better in the first; the others are to be no higher than the Python agent's.
LOAD_FIGURES = (
    ("calls per second", "calls_per_second", "", 1),
    ("p50", "p50", "ms", MILLI),
    ("p99", "p99", "ms", MILLI),
    ("processor time per call, agent", "agent_cpu", "ms", MILLI),
    ("processors busy, client", "client_share", "", 1),
)
THROUGHPUT_GOAL = 5  # Times the Python agent's, for the client that does not saturate first.


def table(results: dict) -> str:
    """Every figure that was taken."""
    tables = [_latency_table(results) if any(results[name] for name in ("start", "rest", "ping")) else "",
              _load_table(results) if results["load"] else ""]
    return "\n\n".join(text for text in tables if text)


def _load_table(results: dict) -> str:
    lines = [
        f"With {results['concurrency']} calls under way:",
        "",
        "| client, call | RPC | figure | Python agent | this agent | floor | ratio | goal met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, labels in results["load"].items():
        for mode in ("plain", "encrypted"):
            lines += [_load_line(name, mode, figure, labels) for figure in LOAD_FIGURES]
    return "\n".join(lines)


def _load_line(name: str, mode: str, figure: tuple, labels: dict) -> str:
    title, key, unit, scale = figure
    python, rust, floor = (labels.get(f"{agent}-{mode}", {}).get(key) for agent in ("python", "rust", "floor"))
    higher = key == "calls_per_second"
    ratio = _ratio(rust, python) if higher else _ratio(python, rust)
    met = ""
    if python is not None and rust is not None and name.startswith("lean") and key in ("calls_per_second", "p99"):
        met = "yes" if (rust >= THROUGHPUT_GOAL * python if higher else rust <= python) else "no"
    cells = [name, mode, title, *(ABSENT if value is None else f"{value / scale:.3g} {unit}".strip()
                                  for value in (python, rust, floor)), ratio, met]
    return "| " + " | ".join(cells) + " |"


def _latency_table(results: dict) -> str:
    """Markdown, one line per measure and encryption."""
    lines = [
        "| what | RPC | Python agent | this agent | floor | Python / this | this / floor | goal | met |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        for mode in ("plain", "encrypted"):
            lines.append(_line(row, mode, results))
    return "\n".join(lines)


def _line(row: Row, mode: str, results: dict) -> str:
    measure, figure = row.path
    python, rust, floor = (
        results[measure].get(f"{name}-{mode}", {}).get(figure) for name in ("python", "rust", "floor"))
    cells = [
        row.title,
        mode,
        _figure(python, row),
        _figure(rust, row),
        _figure(floor, row),
        _ratio(python, rust),
        _ratio(rust, floor),
        _goal(row),
        _met(row, rust, floor),
    ]
    return "| " + " | ".join(cells) + " |"


def _figure(value: float | None, row: Row) -> str:
    return ABSENT if value is None else f"{value / row.scale:.3g} {row.unit}"


def _ratio(above: float | None, below: float | None) -> str:
    return "" if above is None or below is None else f"{above / below:.3g}"


def _goal(row: Row) -> str:
    goals = []
    if row.goal is not None:
        goals.append(f"< {row.goal} {row.unit}")
    if row.floor_goal is not None:
        goals.append(f"≤ {row.floor_goal} × floor")
    return ", ".join(goals)


def _met(row: Row, rust: float | None, floor: float | None) -> str:
    if rust is None or (row.goal is None and row.floor_goal is None):
        return ""
    if row.goal is not None and rust / row.scale >= row.goal:
        return "no"
    if row.floor_goal is not None and floor is not None and rust / floor > row.floor_goal:
        return "no"
    return "yes"
