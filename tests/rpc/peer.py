"""The controller's side, with the real oslo.messaging and Trove's real serializers: requests as JSON lines on stdin, results on stdout."""

import concurrent.futures
import json
import queue
import sys
import tempfile
import threading

import kombu
import oslo_messaging as om
import oslo_messaging.opts
from oslo_concurrency import lockutils
from oslo_config import cfg
from oslo_messaging._metrics import client as metrics
from oslo_messaging._tracing import client as tracing
from trove.common import crypto_utils
from trove.common.rpc import secure_serializer
from trove.common.rpc import serializer as trove_serializer

HEARD_SECONDS = 30
OUT = threading.Lock()
LOCK = threading.Lock()


class Plain(om.NoOpSerializer):
    """Contexts are dictionaries here."""


class Sealed(om.NoOpSerializer):
    """Trove's secure serializer on dictionaries for contexts."""

    def __init__(self, key):
        self.secure = secure_serializer.SecureSerializer(base=trove_serializer.TroveSerializer(base=None), key=key)

    def serialize_entity(self, context, entity):
        return self.secure.serialize_entity(context, entity)

    def deserialize_entity(self, context, entity):
        return self.secure.deserialize_entity(context, entity)

    def serialize_context(self, context):
        return self.secure._serialize_context(context)


def configuration(exchange, options):
    conf = cfg.ConfigOpts()
    conf([], project="peer")
    for group, opts in oslo_messaging.opts.list_opts():
        conf.register_opts(list(opts), group=group)
    # These two clients register theirs on the global configuration only.
    conf.register_opts(tracing.oslo_messaging_tracing, group="oslo_messaging_tracing")
    conf.register_opts(metrics.oslo_messaging_metrics, group="oslo_messaging_metrics")
    conf.set_override("control_exchange", exchange)
    for name, value in options.items():
        conf.set_override(name, value, group="oslo_messaging_rabbit")
    return conf


TRANSPORTS = {}


def transport(job):
    options = job.get("options", {})
    key = (job["url"], job["exchange"], json.dumps(options, sort_keys=True))
    with LOCK:
        if key not in TRANSPORTS:
            TRANSPORTS[key] = om.get_rpc_transport(configuration(job["exchange"], options), url=job["url"])
        return TRANSPORTS[key]


def call(job):
    serializer = Sealed(job["key"]) if job.get("key") else Plain()
    target = om.Target(topic="guestagent." + job["guest"], version=job.get("version", "1.3"))
    client = om.get_rpc_client(
        transport(job),
        target,
        serializer=serializer,
        timeout=job.get("timeout", 30),
        call_monitor_timeout=job.get("monitor"),
    )
    prepared = client.prepare(version=job.get("version", "1.3"))
    if "filler" in job:
        # Made here: a line of this length would have to get through stdin. Trove's agent takes no notice of unknown arguments either.
        job["args"]["filler"] = "x" * job["filler"]
    if job["do"] == "cast":
        prepared.cast(job.get("context", {}), job["method"], **job.get("args", {}))
        return None
    return prepared.call(job.get("context", {}), job["method"], **job.get("args", {}))


def declare(job):
    """Makes the guest's queue as the task manager does before the guest exists."""
    topic = "guestagent." + job["guest"]
    server = om.get_rpc_server(
        transport(job), om.Target(topic=topic, server=job["guest"]), [], executor="threading"
    )
    server.start()
    server.stop()
    server.wait()


class Conductor:
    """Hears what one guest tells of failures."""

    target = om.Target(version="1.0")

    def __init__(self):
        self.heard = queue.Queue()

    def notify_exc_info(self, context, serialized_notification, message, exception):
        self.heard.put({"notification": serialized_notification, "message": message})


CONDUCTORS = {}


def conduct(job):
    """Serves the conductor's queue as a conductor does, fanout and all."""
    conductor = Conductor()
    server = om.get_rpc_server(
        transport(job), om.Target(topic="conductor-" + job["guest"], server="conductor-host"), [conductor], executor="threading"
    )
    server.start()
    CONDUCTORS[job["guest"]] = (conductor, server)


def heard(job):
    """The next cast to the conductor."""
    conductor, _ = CONDUCTORS[job["guest"]]
    return conductor.heard.get(timeout=HEARD_SECONDS)


def dismiss(job):
    _, server = CONDUCTORS.pop(job["guest"])
    server.stop()
    server.wait()


def forget_exchange(job):
    with kombu.Connection(job["url"].replace("rabbit://", "amqp://", 1) + "/") as connection:
        connection.channel().exchange_delete(job["exchange"])


def digest(job):
    text = crypto_utils.decrypt_data(crypto_utils.decode_data(job["data"]), job["key"])
    return json.loads(text)


JOBS = {
    "call": call,
    "cast": call,
    "conduct": conduct,
    "declare": declare,
    "decrypt": digest,
    "dismiss": dismiss,
    "forget_exchange": forget_exchange,
    "heard": heard,
}


def serve(job):
    try:
        result = JOBS[job["do"]](job)
        answer = {"id": job["id"], "result": result}
    except BaseException as error:
        answer = {"id": job["id"], "error": type(error).__name__, "text": str(error), "remote": getattr(error, "exc_type", None)}
    with OUT:
        print(json.dumps(answer), flush=True)


def main():
    # The queue manager of oslo.messaging counts its queues under a lock in a file.
    with tempfile.TemporaryDirectory() as locks, concurrent.futures.ThreadPoolExecutor(256) as pool:
        lockutils.set_defaults(locks)
        for line in sys.stdin:
            pool.submit(serve, json.loads(line))


main()
