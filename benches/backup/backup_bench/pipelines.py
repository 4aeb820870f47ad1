"""The contestants: each reads the same live dump and leaves nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from backup_bench.database import Database
from bench.swift import Swift

CONTAINER = "database_backups"
PASSWORD = "not a secret: it encrypts test rows"
ENCRYPT = ["openssl", "enc", "-aes-256-cbc", "-pass", "env:BACKUP_KEY"]
ENVIRONMENT = os.environ | {"BACKUP_KEY": PASSWORD}


@dataclass
class Outcome:
    """One run: seconds, bytes out, the most PSS in bytes (this agent only), and seconds of processor, the dump's included."""

    seconds: float
    size: int
    pss: int = 0
    cpu: float = 0.0


def measured(work: Callable[[], Outcome]) -> Outcome:
    """The outcome of `work` with the processor time of this process and of the children it has waited for."""
    before = processor()
    outcome = work()
    outcome.cpu = processor() - before
    return outcome


def processor() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@contextlib.contextmanager
def pipe(*commands: list[str], stdin: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The commands, each reading from the one before; yields the last. All must succeed."""
    processes: list[subprocess.Popen[bytes]] = []
    source: object = stdin if stdin is not None else subprocess.DEVNULL
    for command in commands:
        process = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
        if processes:
            processes[-1].stdout.close()
        processes.append(process)
        source = process.stdout
    try:
        yield processes[-1]
        for process, command in zip(processes, commands, strict=True):
            if process.wait(timeout=600) != 0:
                raise AssertionError(f"{command[0]} ended with {process.returncode}")
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def stock(dump: list[str], keep: Path | None = None) -> Outcome:
    """`dump | gzip | openssl enc`, its output counted or kept."""
    started = time.perf_counter()
    size = 0
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(keep.open("wb")) if keep else None
        last = stack.enter_context(pipe(dump, ["gzip"], ENCRYPT))
        while chunk := last.stdout.read(1 << 16):
            size += len(chunk)
            if kept:
                kept.write(chunk)
    return Outcome(time.perf_counter() - started, size)


def python_agent(dump: list[str]) -> Outcome:
    """The same pipe read by Trove 12.1.0's StreamReader, the way swiftclient reads it: 64 KiB at a time, MD5 of each."""
    # Here, since it takes a second that is not the upload's.
    from trove.common.strategies.storage.swift import CHUNK_SIZE, StreamReader

    started = time.perf_counter()
    size = 0
    etag = hashlib.md5(usedforsecurity=False)
    with pipe(dump, ["gzip"], ENCRYPT) as last:
        reader = StreamReader(last.stdout, "bench.gz.enc")
        while not reader.end_of_file:
            while chunk := reader.read(CHUNK_SIZE):
                etag.update(chunk)
                size += len(chunk)
    return Outcome(time.perf_counter() - started, size)


class Piped:
    """What Trove's storage takes for a backup runner: a stream with metadata."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read

    def metadata(self) -> dict[str, str]:
        return {}


def python_upload(dump: list[str], swift: Swift, name: str) -> Outcome:
    """The same pipe stored in a real Swift by `SwiftStorage.save` of Trove 12.1.0, python-swiftclient under it."""
    from trove.common.strategies.storage.swift import SwiftStorage

    # Its constructor gets this client out of a context.
    storage = SwiftStorage.__new__(SwiftStorage)
    storage.connection = swift.client()
    started = time.perf_counter()
    with pipe(dump, ["gzip"], ENCRYPT) as last:
        saved, note, _, _ = storage.save(f"{name}.gz.enc", Piped(last.stdout))
    seconds = time.perf_counter() - started
    if not saved:
        raise AssertionError(note)
    return Outcome(seconds, stored_size(swift, f"{name}.gz.enc"))


def our_upload(stream: Path, server: Database, swift: Swift, name: str, spool: Path) -> Outcome:
    """The agent's stream and storage behind the same dump, in the same Swift."""
    token, url = swift.login()
    started = time.perf_counter()
    source = subprocess.Popen(["nice", "-n", "19", *server.dump()], stdout=subprocess.PIPE, env=ENVIRONMENT)
    command = [str(stream), "swift", url, f"{name}.gz.enc", str(spool)]
    environment = ENVIRONMENT | {"SWIFT_TOKEN": token}
    process = subprocess.Popen(command, stdin=source.stdout, stderr=subprocess.PIPE, env=environment)
    source.stdout.close()
    found = figures(process)
    seconds = time.perf_counter() - started
    if source.wait(timeout=60) != 0:
        raise AssertionError("the dump failed")
    return Outcome(seconds, stored_size(swift, f"{name}.gz.enc"), int(found["pss"]))


def stored_size(swift: Swift, name: str) -> int:
    """What Swift has of it; removes it."""
    client = swift.client()
    size = int(client.head_object(CONTAINER, name)["content-length"])
    client.delete_object(CONTAINER, name)
    return size


def figures(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """The last line of the agent's standard error."""
    _, errors = process.communicate(timeout=3600)
    if process.returncode != 0:
        raise AssertionError(f"the stream failed: {errors.decode()}")
    return json.loads(errors.decode().splitlines()[-1])


def stored_by(stream: Path, verb: list[str], spool: Path | None) -> list[str]:
    """The agent's own stream; without a spool, segments are kept in memory."""
    return [str(stream), *verb, *([str(spool)] if spool else [])]


def ours(stream: Path, server: Database, spool: Path | None, rate: int) -> Outcome:
    """The agent's own stream behind the same dump: gzip, AES, MD5, a copy of each segment, and a store that hashes and forgets. No faster than
    `rate` bytes a second while the server has clients at work; 0 is full speed in any case."""
    started = time.perf_counter()
    # The last place, as the agent gives it to its tools.
    verb = ["paced", str(rate), str(server.socket), str(server.credentials)]
    source = subprocess.Popen(["nice", "-n", "19", *server.dump()], stdout=subprocess.PIPE, env=ENVIRONMENT)
    process = subprocess.Popen(stored_by(stream, verb, spool), stdin=source.stdout, stderr=subprocess.PIPE, env=ENVIRONMENT)
    source.stdout.close()
    found = figures(process)
    seconds = time.perf_counter() - started
    if source.wait(timeout=60) != 0:
        raise AssertionError("the dump failed")
    return Outcome(seconds, int(found["stored"]), int(found["pss"]))


def synthetic(stream: Path, size: int, spool: Path | None) -> Outcome:
    """The agent's own stream over text it makes itself."""
    found = figures(subprocess.Popen(stored_by(stream, ["synthetic", str(size)], spool), stderr=subprocess.PIPE, env=ENVIRONMENT))
    return Outcome(found["seconds"], int(found["stored"]), int(found["pss"]))


def drain(source: object) -> int:
    size = 0
    while chunk := source.read(1 << 20):
        size += len(chunk)
    return size


def stock_restore(backup: Path) -> Outcome:
    """`openssl enc -d | gzip -d`, its output counted."""
    started = time.perf_counter()
    with backup.open("rb") as file, pipe([*ENCRYPT, "-d"], ["gzip", "-d"], stdin=file.fileno()) as last:
        size = drain(last.stdout)
    return Outcome(time.perf_counter() - started, size)


def our_restore(stream: Path, backup: Path, md5: str) -> Outcome:
    """The agent's own stream from the same file, its output counted."""
    command = [str(stream), "restore", str(backup), md5]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    size = drain(process.stdout)
    found = figures(process)
    return Outcome(time.perf_counter() - started, size, int(found["pss"]))


def md5_of(path: Path) -> str:
    """What Swift tells about an object."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
