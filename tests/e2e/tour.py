"""The tour of README.md, walked as it is written there."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from bench.guest import Guest
from bench.session import REPOSITORY

HEADING = "### Five minutes with it"
# What a person ends with Ctrl-C ends at the first look that finds nothing left to do.
WATCH = "trove-guestctl status --watch"
WATCHED = f"timeout 60 {WATCH} | grep --max-count=1 'nothing is under way'"
END = "end of command"
TOUR_SECONDS = 120.0


@dataclass(frozen=True)
class Shown:
    command: str
    status: int
    # Standard output and error, as a terminal shows them.
    text: str


def commands() -> list[str]:
    """Every command of the tour, without the comments."""
    block = (REPOSITORY / "README.md").read_text().split(HEADING)[1].split("```")[1]
    lines = (re.sub(r"\s+# .*", "", line).strip() for line in block.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def walk(guest: Guest) -> list[Shown]:
    """One shell of root in the guest for all of it: a command may set what the next one uses."""
    wanted = commands()
    lines = (f"{command.replace(WATCH, WATCHED)}\nstatus=$?; echo; echo '{END}' $status" for command in wanted)
    argv = guest.container.enter(["bash", "-l"])
    done = subprocess.run(
        argv, input="\n".join(lines), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TOUR_SECONDS, check=True
    )
    texts = re.split(rf"\n{END} (\d+)\n", done.stdout)
    assert len(texts) == 2 * len(wanted) + 1, done.stdout
    return [Shown(command, int(status), text) for command, text, status in zip(wanted, texts[::2], texts[1::2], strict=False)]
