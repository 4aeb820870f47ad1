"""Runs a program inside a base root, which stays as it is: `unshare -m -- python enter_root.py ROOT DIRECTORY COMMAND...`.

DIRECTORY is `/srv` there. The mounts are in a mount namespace of the program's own, and end with it.
"""

from __future__ import annotations

import os
import subprocess
import sys

INSIDE = "/srv"


def command_line(root: str, directory: str, *command: str) -> list[str]:
    """What runs `command` inside; it ends with it."""
    return ["unshare", "--mount", "--", sys.executable, __file__, root, directory, *command]


def main(root: str, directory: str, *command: str) -> None:
    for arguments in (
        ["--rbind", "/dev", f"{root}/dev"],
        ["-t", "proc", "proc", f"{root}/proc"],
        ["--bind", directory, f"{root}{INSIDE}"],
    ):
        subprocess.run(["mount", *arguments], check=True, stdin=subprocess.DEVNULL, timeout=20)
    os.chroot(root)
    os.chdir(INSIDE)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
