"""A private MariaDB with a table of orders: names, dates, amounts, a note in prose and a random token in each row."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pymysql
from bench.child import Child
from bench.waiting import wait_until

TABLE = """create table orders (id bigint primary key, customer int, name varchar(80), email varchar(120), created datetime,
total decimal(12,2), status varchar(16), note text, token char(32), key (customer), key (created))"""
SYLLABLES = ["ka", "ro", "ti", "men", "sal", "ver", "do", "lin", "pra", "shu", "ost", "bel", "an", "ge", "mo", "tra", "ne", "fi",
             "qu", "war", "zen", "ly", "er", "ing", "est"]  # fmt: skip
STATES = ("new", "paid", "shipped", "returned", "cancelled")


class Database:
    """The running server."""

    def __init__(self, socket: Path, credentials: Path) -> None:
        self.socket = socket
        # The agent's account, as on a guest: its sessions, and those of its tools, are no clients.
        self.credentials = credentials
        self.rows = 0

    def connect(self) -> pymysql.Connection:
        return pymysql.connect(unix_socket=str(self.socket), user="root", autocommit=True)

    def dump(self) -> list[str]:
        """The command that writes the dump."""
        return ["mysqldump", f"--defaults-file={self.credentials}", "--single-transaction", "--quick", "shop"]

    def add_agent(self) -> None:
        """Makes the agent's account."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("create user os_admin@localhost identified by 'no secret'")
            cursor.execute("grant all on *.* to os_admin@localhost")
        self.credentials.write_text(f"[client]\nuser = os_admin\npassword = no secret\nsocket = {self.socket}\n")

    def fill(self, megabytes: int) -> None:
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("create database shop")
            cursor.execute("use shop")
            cursor.execute(TABLE)
            for statement, rows in statements(megabytes << 20):
                cursor.execute(statement)
                self.rows += rows


def statements(size: int) -> Iterator[tuple[str, int]]:
    """INSERT statements of about 1 MB each, `size` bytes in all; always the same ones. Words are as frequent as words are."""
    source = random.Random(7)
    words = ["".join(source.choices(SYLLABLES, k=source.choice((1, 2, 2, 3, 3, 4)))) for _ in range(12000)]
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(words))))
    start = datetime.datetime(2024, 1, 1)
    number, done = 0, 0
    while done < size:
        rows: list[str] = []
        length = 0
        while length < 1_000_000:
            number += 1
            when = start + datetime.timedelta(seconds=number * 37 + source.randrange(3600))
            note = " ".join(source.choices(words, cum_weights=weights, k=source.randrange(6, 50)))
            name = f"{source.choice(words).title()} {source.choice(words).title()}"
            email = f"{name.replace(' ', '.').lower()}@{source.choice(words)}.example"
            row = (f"({number},{source.randrange(200000)},'{name}','{email}','{when}',{source.lognormvariate(3, 1.2):.2f},"
                   f"'{source.choice(STATES)}','{note}','{source.getrandbits(128):032x}')")  # fmt: skip
            rows.append(row)
            length += len(row)
        statement = "insert into orders values " + ",".join(rows)
        yield statement, len(rows)
        done += len(statement)


@contextlib.contextmanager
def running() -> Iterator[Database]:
    """An empty server of its own, on a socket only; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="trove-backup-bench-") as name:
        home = Path(name)
        data, socket = home / "data", home / "socket"
        owner = ["--no-defaults", f"--datadir={data}", *(["--user=root"] if os.geteuid() == 0 else [])]
        install = ["mariadb-install-db", *owner, "--auth-root-authentication-method=normal"]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        options = [f"--socket={socket}", "--skip-networking", "--innodb-buffer-pool-size=1G", "--max-allowed-packet=16M"]
        child = Child("mariadbd", ["mariadbd", *owner, *options], home / "log")
        try:
            wait_until("the database's socket", socket.exists, 60, explain=child.tail, each=child.check_alive)
            database = Database(socket, home / "os_admin.cnf")
            database.add_agent()
            yield database
        finally:
            child.stop()
