"""What the workers of every Trove release share: the real guest API classes, and requests as JSON lines.

A worker is a script that readies its Trove (`serve`) after importing it; this module is imported by those scripts only. Trove patches
the standard library (eventlet) and keeps one global configuration: neither may get into the process of the tests. Requests and
answers go over an inherited socket:

    {"operation": NAME, "arguments": {...}}  ->  {"result": ...} or {"error": CLASS, "message": TEXT, "remote": CLASS}

In the middle of an operation the worker may ask back (`tell`): {"event": NAME, "arguments": {...}}, answered like an operation.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import socket
import sys
import textwrap
import time
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any, TextIO

# Importing trove.cmd patches the standard library, as it does for Trove's own services: it must come first.
from trove.cmd import common as trove_start

from osprofiler import profiler
from trove.common import notification
from trove.common.context import TroveContext
from trove.common.rpc import conductor_host_serializer, serializer
from trove.common.strategies.cluster.experimental.cassandra import guestagent as cassandra
from trove.common.strategies.cluster.experimental.galera_common import guestagent as galera
from trove.common.strategies.cluster.experimental.mongodb import guestagent as mongodb
from trove.common.strategies.cluster.experimental.redis import guestagent as redis
from trove.common.strategies.cluster.experimental.vertica import guestagent as vertica
from trove.guestagent import api as guest_api

TENANT = "11111111222233334444555566667777"
# The guest API, and what each cluster strategy makes of it.
APIS: dict[str, type] = {
    "base": guest_api.API,
    "mongodb": mongodb.MongoDbGuestAgentAPI,
    "redis": redis.RedisGuestAgentAPI,
    "cassandra": cassandra.CassandraGuestAgentAPI,
    "galera": galera.GaleraCommonGuestAgentAPI,
    "vertica": vertica.VerticaGuestAgentAPI,
}
AUTH_TOKEN = ""
SAVE_SECONDS = 30.0
# The other end: set while `serve` runs.
_STREAM: TextIO | None = None


class Refused(Exception):
    """What a `tell` gets for an answer when the other end does not do it."""


def tell(event: str, **arguments: Any) -> Any:
    """Has the other end do something, in the middle of an operation."""
    assert _STREAM is not None
    _STREAM.write(json.dumps({"event": event, "arguments": arguments}) + "\n")
    _STREAM.flush()
    answer = json.loads(_STREAM.readline())
    if "error" in answer:
        raise Refused(answer["error"])
    return answer["result"]


def call(
    instance_id: str,
    method: str,
    arguments: dict[str, Any],
    event: str | None = None,
    api: str = "base",
    profiled: bool = False,
    storage: dict[str, str] | None = None,
) -> Any:
    """Any method of a real guest API; with `event`, a notification of that class travels along; `profiled`, osprofiler's trace; `storage`, an
    account of Swift in the service catalog."""
    with _profiler() if profiled else contextlib.nullcontext():
        return getattr(guest(instance_id, event, api, storage), method)(**arguments)


def surface() -> list[dict[str, Any]]:
    """Every method of the API classes that sends something, read from their code: what it is called, takes and sends."""
    return [
        {"api": api, "method": name, "arguments": list(inspect.signature(function).parameters)[1:], "sends": wire, "is_call": kind == "_call"}
        for api, cls in APIS.items()
        for name, function in vars(cls).items()
        if inspect.isfunction(function)
        for kind, wire in _sent_by(function)
    ]


def conductor_reads(message: dict[str, Any]) -> dict[str, Any]:
    """A cast to the conductor as Trove's conductor takes it apart: through its own serializer, with the keys of its own database."""
    prefix = "_context_"
    sent = {name.removeprefix(prefix): value for name, value in message.items() if name.startswith(prefix)}
    base = serializer.TroveRequestContextSerializer(None)
    host = conductor_host_serializer.ConductorHostSerializer(base, None)
    # What the base serializer is given to build a context of.
    received = host._deserialize_context(dict(sent))
    arguments = {name: host.deserialize_entity(received, value) for name, value in message["args"].items()}
    return {"received": received, "arguments": arguments}


def conductor_builds(message: dict[str, Any]) -> dict[str, Any]:
    """The context of a cast, as the conductor's methods get it."""
    return serializer.TroveRequestContextSerializer(None).deserialize_context(conductor_reads(message)["received"]).to_dict()


def guest(instance_id: str, event: str | None = None, api: str = "base", storage: dict[str, str] | None = None) -> Any:
    """The real API object of an instance."""
    context = new_context(storage)
    if event:
        # A request of the REST API, as far as notifications look at it.
        request = types.SimpleNamespace(remote_addr="192.0.2.9", host="controller")
        context.notification = getattr(notification, event)(context, request=request, instance_id=instance_id)
    return APIS[api](context, instance_id)


def new_context(storage: dict[str, str] | None = None) -> TroveContext:
    """`storage` has the `url` of an account of Swift, and a `token` for it."""
    swift = {"type": "object-store", "name": "swift", "endpoints": [{"region": "RegionOne", "publicURL": storage["url"]}]} if storage else None
    token = storage["token"] if storage else AUTH_TOKEN
    # `user` and `project_id` as keystonemiddleware sets them for a user's request.
    return TroveContext(
        user_id="bench-user", project_id=TENANT, is_admin=True, auth_token=token, limit=20, service_catalog=[swift] if swift else []
    )


def serve(*operations: Callable[..., Any]) -> None:
    """Initializes Trove as its services do, and answers requests until the other end closes."""
    global AUTH_TOKEN, _STREAM
    descriptor, AUTH_TOKEN = int(sys.argv.pop(1)), sys.argv.pop(1)
    trove_start.initialize()
    _be_patient()
    table = {operation.__name__: operation for operation in (call, surface, conductor_reads, conductor_builds, *operations)}
    # Held by name: eventlet closes the descriptor with its socket object, whatever was made of it.
    connection = socket.socket(fileno=descriptor)
    _STREAM = stream = connection.makefile("rw")
    # Not by iteration, which reads ahead: `tell` reads from it, too.
    while line := stream.readline():
        stream.write(_answer(table, line) + "\n")
        stream.flush()


def _be_patient() -> None:
    """SQLite refuses at once to write what it read before another wrote (the conductor does): Trove's `save`, a transaction of its own, is repeated."""
    import sqlalchemy.exc
    from trove.db.sqlalchemy import api as db_api

    save = db_api.save

    def patient(model: Any) -> Any:
        deadline = time.monotonic() + SAVE_SECONDS
        while True:
            try:
                return save(model)
            except sqlalchemy.exc.OperationalError as error:
                if "database is locked" not in str(error) or time.monotonic() > deadline:
                    raise

    db_api.save = patient


def _answer(table: dict[str, Callable[..., Any]], line: str) -> str:
    request = json.loads(line)
    try:
        return json.dumps({"result": table[request["operation"]](**request["arguments"])})
    except Exception as error:  # noqa: BLE001 - every failure travels to the test as it is
        traceback.print_exc()
        # The API makes a GuestError of whatever oslo.messaging raised; that one is its context.
        cause = error.__context__
        remote = getattr(cause, "exc_type", None) or (type(cause).__name__ if cause else None)
        return json.dumps({"error": type(error).__name__, "message": str(error), "remote": remote})


def _sent_by(function: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """`self._call("name", ...)` and `self._cast("name", ...)` in a method's code."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("_call", "_cast"):
            name = node.args[0]
            assert isinstance(name, ast.Constant), f"{function.__qualname__} sends what only running it would tell"
            yield node.func.attr, name.value


@contextlib.contextmanager
def _profiler() -> Iterator[None]:
    profiler.init("bench-hmac-key")
    try:
        yield
    finally:
        profiler.clean()
