"""An HTTP proxy in front of one server that does to requests what networks and servers do to them.

    with FaultProxy(session, "127.0.0.1:8080") as proxy:        # proxy.address is where it listens
        proxy.add({"method": "PUT", "path": "_00000001$", "times": 2, "status": 503})
        proxy.requests()                                        # [{"method", "path", "query", "status", "token"}, ...]

`python -m bench.fault_proxy TARGET [LISTEN [CERTIFICATE KEY]]` is the proxy itself, with a certificate over TLS: it prints the port it listens on. `POST /.faults` adds a rule, `DELETE` removes all,
`GET` lists the requests so far (`token` is the one Keystone gave).

A rule counts for requests whose `method` and `path` (a regular expression, searched in path and query) match, after the first `skip` of them, `times`
times (else for ever). It says one or more of:

    status N, body TEXT     answers so, once the request has been read, and the server sees nothing of it
    early true              answers so before the body of the request is read
    stall_after N           takes N bytes of the request's body, then nothing more, until the client gives up
    close_after N           takes N bytes of the request's body, then closes both connections
    lose true               the server does it, and the connection closes before the answer
    stall_answer_after N    passes N bytes of the answer's body on, then nothing more
    close_answer_after N    passes N bytes of the answer's body on, then closes
    slow SECONDS            waits so long after each 64 KiB of the request's and the answer's body
    etag TEXT               the answer has this entity tag
    query TEXT              the server sees this at the end of the query
    replace [RE, TEXT]      replaces in the answer's body
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import urllib.request
from pathlib import Path
from typing import Any

from .child import Child
from .session import Session
from .waiting import free_port, tcp_open, wait_until

CHUNK = 1 << 16
CONTROL = "/.faults"
START_SECONDS = 30.0
Rule = dict[str, Any]


class FaultProxy:
    """The proxy as a process, and its remote control."""

    def __init__(self, session: Session, target: str, host: str = "127.0.0.1") -> None:
        self.address = f"{host}:{free_port(host)}"
        name = session.unique("faults")
        argv = [sys.executable, "-m", "bench.fault_proxy", target, self.address]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        self._child = Child(name, argv, session.directory / f"{name}.log", environment)
        session.defer(self.close)
        port = int(self.address.rpartition(":")[2])
        wait_until("the fault proxy", lambda: tcp_open(host, port), START_SECONDS, self._child.tail, self._child.check_alive)

    def add(self, rule: Rule) -> None:
        self._control("POST", rule)

    def clear(self) -> None:
        self._control("DELETE")

    def requests(self) -> list[dict[str, Any]]:
        return self._control("GET")

    def close(self) -> None:
        self._child.kill()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _control(self, method: str, body: object = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://{self.address}{CONTROL}", data, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


class Closed(Exception):
    """The rule closes the connection, or a peer has."""


class Head:
    """First line and headers of a message."""

    def __init__(self, line: str, headers: list[tuple[str, str]]) -> None:
        self.line = line
        self.headers = headers

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Head:
        try:
            text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError as error:
            raise Closed from error
        line, *rest = text.rstrip("\r\n").split("\r\n")
        return cls(line, [(name, value.strip()) for name, _, value in (entry.partition(":") for entry in rest)])

    def get(self, name: str) -> str | None:
        return next((value for other, value in self.headers if other.lower() == name), None)

    def set(self, name: str, value: str) -> None:
        self.headers = [*((other, old) for other, old in self.headers if other.lower() != name.lower()), (name, value)]

    def encode(self) -> bytes:
        return "\r\n".join([self.line, *(f"{name}: {value}" for name, value in self.headers), "", ""]).encode("latin-1")


class Proxy:
    """Every connection carries one request."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.rules: list[Rule] = []
        self.seen: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await Head.read(reader)
            method, path, _ = head.line.split(" ", 2)
            if path == CONTROL:
                await self._control(method, head, reader, writer)
            else:
                await self._request(method, path, head, reader, writer)
        except (Closed, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _control(self, method: str, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if method == "POST":
            self.rules.append(json.loads(await reader.readexactly(int(head.get("content-length") or 0))))
        elif method == "DELETE":
            self.rules.clear()
        await _answer(writer, 200, json.dumps(self.seen))

    def _rule(self, method: str, path: str) -> Rule:
        for rule in self.rules:
            if rule.get("method", method) != method or not re.search(rule.get("path", ""), path):
                continue
            if rule.get("skip", 0) > 0:
                rule["skip"] -= 1
            elif rule.get("times") != 0:
                if "times" in rule:
                    rule["times"] -= 1
                return rule
        return {}

    async def _request(self, method: str, path: str, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rule = self._rule(method, path)
        plain, _, query = path.partition("?")
        record = {"method": method, "path": plain, "query": query, "status": None, "token": None}
        self.seen.append(record)
        if "status" in rule:
            if not rule.get("early"):
                await self._send_body(head, reader, None, rule)
            record["status"] = rule["status"]
            await _answer(writer, rule["status"], rule.get("body", ""))
            return
        host, _, port = self.target.rpartition(":")
        upstream, server = await asyncio.open_connection(host, int(port))
        try:
            if "query" in rule:
                query = f"{query}&{rule['query']}" if query else rule["query"]
                head.line = head.line.replace(path, f"{plain}?{query}", 1)
            head.set("Connection", "close")
            server.write(head.encode())
            sending = asyncio.ensure_future(self._send_body(head, reader, server, rule))
            answering = asyncio.ensure_future(self._pass_answer(upstream, writer, rule, record))
            # A server may answer before it has read everything.
            done, _ = await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_EXCEPTION)
            await asyncio.gather(*done)
            await answering
        finally:
            for task in (sending, answering):
                task.cancel()
            server.close()

    async def _send_body(self, head: Head, reader: asyncio.StreamReader, server: asyncio.StreamWriter | None, rule: Rule) -> None:
        """Passes the request's body on as it stands, chunks and all; without a server it is thrown away."""
        taken = 0
        async for data, size in _body(head, reader):
            taken += size
            if server is not None:
                server.write(data)
                await server.drain()
            if taken >= rule.get("stall_after", float("inf")):
                await asyncio.Event().wait()
            if taken >= rule.get("close_after", float("inf")):
                raise Closed
            await asyncio.sleep(rule.get("slow", 0))

    async def _pass_answer(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, rule: Rule, record: dict[str, Any]) -> None:
        head = await Head.read(upstream)
        record["status"] = int(head.line.split(" ")[1])
        record["token"] = head.get("x-subject-token")
        if rule.get("lose"):
            await upstream.read()
            raise Closed
        head.set("Connection", "close")
        if "etag" in rule:
            head.set("Etag", rule["etag"])
        if "replace" in rule:
            body = re.sub(rule["replace"][0], rule["replace"][1], (await upstream.read()).decode())
            head.set("Content-Length", str(len(body.encode())))
            writer.write(head.encode() + body.encode())
            await writer.drain()
            return
        writer.write(head.encode())
        passed = 0
        end = min(rule.get("stall_answer_after", 1 << 62), rule.get("close_answer_after", 1 << 62))
        while passed < end and (data := await upstream.read(min(CHUNK, end - passed))):
            passed += len(data)
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(rule.get("slow", 0))
        if passed >= rule.get("stall_answer_after", float("inf")):
            await asyncio.Event().wait()


async def _body(head: Head, reader: asyncio.StreamReader) -> Any:
    """Pieces of a body with the number of its own bytes in each."""
    if (head.get("transfer-encoding") or "").lower() == "chunked":
        size = 1
        while size > 0:
            line = await reader.readuntil(b"\r\n")
            size = int(line, 16)
            yield line + await reader.readexactly(size + 2), size
        return
    left = int(head.get("content-length") or 0)
    while left > 0:
        data = await reader.read(min(CHUNK, left))
        if not data:
            raise Closed
        left -= len(data)
        yield data, len(data)


async def _answer(writer: asyncio.StreamWriter, status: int, body: str) -> None:
    data = body.encode()
    writer.write(Head(f"HTTP/1.1 {status} Fault", [("Content-Length", str(len(data))), ("Connection", "close")]).encode() + data)
    await writer.drain()


async def main(target: str, listen: str = "127.0.0.1:0", *certificate: str) -> None:
    host, _, port = listen.rpartition(":")
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
    server = await asyncio.start_server(Proxy(target).serve, host, int(port), ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3, 5):
        raise SystemExit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
