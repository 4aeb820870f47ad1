"""What a person sees while something takes its time: a line per step, alive on a terminal, with the time it took."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

# Time between two updates of the live line, in seconds.
TICK = 0.2
WIDTH = 56


class Progress:
    """Colours and the live line only on a terminal; elsewhere plain lines."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._began = time.monotonic()

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Shows `text` while the body runs, then how long it took."""
        began = time.monotonic()
        ended = threading.Event()
        live = threading.Thread(target=self._live, args=(text, began, ended), daemon=True)
        if self._terminal:
            live.start()
        else:
            print(f"  ..  {text}", flush=True)
        mark = self._coloured("FAIL", "31")
        try:
            yield
            mark = self._coloured("ok", "32") + "  "
        finally:
            ended.set()
            if self._terminal:
                live.join()
            print(f"{self._start_of_line()}{mark:>4}  {text:<{WIDTH}} {time.monotonic() - began:6.1f} s", flush=True)

    def heading(self, text: str) -> None:
        print(f"\n{self._coloured(text, '1')}", flush=True)

    def note(self, text: str) -> None:
        for line in text.splitlines():
            print(f"      {line}", flush=True)

    def table(self, rows: list[tuple[str, ...]]) -> None:
        """Columns under each other; the first row is the head."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for number, row in enumerate(rows):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self.note(self._coloured(line, "2") if number == 0 else line)

    def total(self) -> float:
        return time.monotonic() - self._began

    def _live(self, text: str, began: float, ended: threading.Event) -> None:
        while not ended.wait(TICK):
            print(f"{self._start_of_line()}  ..  {text:<{WIDTH}} {time.monotonic() - began:6.1f} s", end="", flush=True)

    def _start_of_line(self) -> str:
        return "\r\033[K  " if self._terminal else "  "

    def _coloured(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._terminal else text
