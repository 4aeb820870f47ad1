#!/usr/bin/python3
"""A stand-in of `mongos`, which is in no package registry: installed as a guest's query router.

What a router keeps on its config servers (accounts, logins) is answered by the first of those, the real primary of their set; what it knows itself (shards, that it
is a router) by this program, in the words of the manual ("addShard", "listShards", "hello"). A shard is asked for the name of its set before it is taken. Data is not
sent to shards. Needs PyMongo's `bson`.
"""

from __future__ import annotations

import re
import socket
import socketserver
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import bson

HEADER = struct.Struct("<iiii")
OP_REPLY, OP_MSG = 1, 2013
# Where the first document of a message begins.
BODY = {OP_REPLY: 36, OP_MSG: 21}
SHARD_SECONDS = 10.0
# What members of a replica set say about it.
OF_SET = ("setName", "setVersion", "hosts", "primary", "me", "secondary", "electionId", "lastWrite", "topologyVersion")


class Configuration:
    """The few options of its file that matter here."""

    def __init__(self, path: str) -> None:
        text = Path(path).read_text()
        self.config_host, self.config_port = _address(_option(text, "configDB").partition("/")[2].split(",")[0])
        self.port = int(_option(text, "port"))
        self.socket = Path(_option(text, "pathPrefix")) / f"mongodb-{self.port}.sock"


def _option(text: str, name: str) -> str:
    found = re.search(rf"^\s*{name}:\s*\"?([^\"\s]+)", text, re.MULTILINE)
    if not found:
        raise SystemExit(f"the configuration has no {name}")
    return found.group(1)


def _address(host: str) -> tuple[str, int]:
    name, _, port = host.rpartition(":")
    return name, int(port)


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def receive(stream: socket.socket) -> bytes:
    head = _exactly(stream, HEADER.size)
    return head + _exactly(stream, HEADER.unpack(head)[0] - HEADER.size)


def document(message: bytes) -> dict[str, Any]:
    """The first document of a message; empty when it begins with something else."""
    operation = HEADER.unpack_from(message)[3]
    if operation not in BODY or (operation == OP_MSG and message[20] != 0):
        return {}
    begin = BODY[operation]
    (size,) = struct.unpack_from("<i", message, begin)
    return bson.decode(message[begin : begin + size])


def message(body: dict[str, Any], answers: int = 0) -> bytes:
    data = bson.encode(body)
    return HEADER.pack(HEADER.size + 5 + len(data), 1, answers, OP_MSG) + bytes(5) + data


def as_router(answer: bytes) -> bytes:
    """A greeting of a member as one of a router; everything else as it is."""
    greeting = document(answer)
    if "setName" not in greeting or "maxWireVersion" not in greeting:
        return answer
    data = bson.encode({name: value for name, value in greeting.items() if name not in OF_SET} | {"msg": "isdbgrid"})
    _, request, response, operation = HEADER.unpack_from(answer)
    head = answer[HEADER.size : BODY[operation]]
    return HEADER.pack(HEADER.size + len(head) + len(data), request, response, operation) + head + data


class Router:
    """Answers at the socket and at the port."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.shards: dict[str, str] = {}

    def serve(self) -> None:
        router = self

        class Conversation(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                router.converse(self.request)

        class Tcp(socketserver.ThreadingTCPServer):
            daemon_threads = allow_reuse_address = True

        class Unix(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self.configuration.socket.unlink(missing_ok=True)
        servers = [Unix(str(self.configuration.socket), Conversation), Tcp(("", self.configuration.port), Conversation)]
        threads = [threading.Thread(target=server.serve_forever) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def converse(self, client: socket.socket) -> None:
        own = self.configuration
        with socket.create_connection((own.config_host, own.config_port)) as server:
            try:
                while True:
                    request = receive(client)
                    answer = self.own_answer(document(request))
                    if answer is not None:
                        client.sendall(message(answer, HEADER.unpack_from(request)[1]))
                        continue
                    server.sendall(request)
                    client.sendall(as_router(receive(server)))
            except (EOFError, ConnectionError):
                return

    def own_answer(self, command: dict[str, Any]) -> dict[str, Any] | None:
        if isinstance(command.get("addShard"), str):
            return self.add_shard(command["addShard"])
        if "listShards" in command:
            shards = [{"_id": name, "host": host, "state": 1} for name, host in self.shards.items()]
            return {"shards": shards, "ok": 1.0}
        return None

    def add_shard(self, shard: str) -> dict[str, Any]:
        name, _, host = shard.partition("/")
        with socket.create_connection(_address(host), SHARD_SECONDS) as member:
            member.sendall(message({"hello": 1, "$db": "admin"}))
            greeting = document(receive(member))
        if greeting.get("setName") != name:
            text = f"in seed list {shard}, host {host} does not belong to replica set {name}; found {greeting.get('setName')}"
            return {"ok": 0.0, "errmsg": text, "code": 96, "codeName": "OperationFailed"}
        self.shards[name] = f"{name}/{','.join(greeting['hosts'])}"
        return {"shardAdded": name, "ok": 1.0}


def main(arguments: list[str]) -> None:
    if "--version" in arguments:
        print("mongos version v6.0.5")
        return
    configuration = Configuration(arguments[arguments.index("--config") + 1])
    if "--outputConfig" not in arguments:
        Router(configuration).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
