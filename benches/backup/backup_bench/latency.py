"""What a user of the database feels: point selects and updates, one after the other, while something else goes on."""

from __future__ import annotations

import random
import statistics
import threading
import time
from dataclasses import dataclass, field

from backup_bench.database import Database
from bench.waiting import wait_until

PAUSE = 0.002


@dataclass
class Foreground:
    """A client at its own pace in a thread of its own; use as a context. Latencies are in seconds."""

    database: Database
    selects: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)

    def __enter__(self) -> Foreground:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def settle(self) -> None:
        """Waits until the client is at work."""
        before = len(self.updates)
        wait_until("the client at work", lambda: len(self.updates) > before, 60)

    def _run(self) -> None:
        source = random.Random(11)
        with self.database.connect() as connection, connection.cursor() as cursor:
            while not self._stop.wait(PAUSE):
                key = source.randrange(1, self.database.rows)
                self.selects.append(timed(cursor, "select note from shop.orders where id = %s", key))
                self.updates.append(timed(cursor, "update shop.orders set customer = customer + 1 where id = %s", key))

    def summary(self) -> dict[str, float]:
        """p50 and p99 of both, in ms."""
        found = {}
        for name, values in (("select", self.selects), ("update", self.updates)):
            cuts = statistics.quantiles(values, n=100)
            found |= {f"{name} p50": cuts[49] * 1e3, f"{name} p99": cuts[98] * 1e3}
        return found


def timed(cursor: object, statement: str, key: int) -> float:
    started = time.perf_counter()
    cursor.execute(statement, (key,))
    cursor.fetchall()
    return time.perf_counter() - started
