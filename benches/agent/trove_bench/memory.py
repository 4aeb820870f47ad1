"""Memory of a process and its descendants, from the kernel's own sums."""

import pathlib
from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True)
class Memory:
    """Bytes. `pss` is what the process would free, shared pages being split among those who map them."""

    pss: int
    rss: int
    uss: int

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.pss + other.pss, self.rss + other.rss, self.uss + other.uss)


def of_tree(pid: int) -> Memory:
    """Sum over `pid` and its descendants."""
    total = _of_process(pid)
    for child in _children(pid):
        try:
            total += of_tree(child)
        except (FileNotFoundError, ProcessLookupError):  # A helper of a heartbeat that has just ended.
            continue
    return total


def _of_process(pid: int) -> Memory:
    fields = {}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, _unit = line.split()
        fields[name.rstrip(":")] = int(value) * KIB
    return Memory(pss=fields["Pss"], rss=fields["Rss"], uss=fields["Private_Clean"] + fields["Private_Dirty"])


def _children(pid: int) -> list[int]:
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]
