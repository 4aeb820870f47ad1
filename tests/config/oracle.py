"""Answers what the real oslo.config, oslo.messaging and Trove make of given input.

Reads a JSON list of cases from standard input and writes the list of their answers. One process serves many cases.
"""

import json
import os
import sys
import tempfile

from oslo_config import cfg
from oslo_messaging import transport


def value_of(conf, option):
    group = option["group"]
    section = conf if group == "DEFAULT" else conf[group]
    try:
        return {"value": plain(section[option["name"]])}
    # Whatever is raised, the option has no value; a circle of references ends as RecursionError.
    except Exception as error:
        return {"error": type(error).__name__}


def plain(value):
    if isinstance(value, float):
        return {"float": str(value)}
    if isinstance(value, dict):
        return {"dict": [[key, item] for key, item in value.items()]}
    return value


def declared(option):
    aliases = [cfg.DeprecatedOpt(name, group=group) for group, name in option["aliases"]]
    common = {"default": option["default"], "deprecated_opts": aliases}
    kind, low, high = option["kind"], option["min"], option["max"]
    makers = {
        "text": lambda: cfg.StrOpt(option["name"], **common),
        "boolean": lambda: cfg.BoolOpt(option["name"], **common),
        "integer": lambda: cfg.IntOpt(option["name"], min=low, max=high, **common),
        "number": lambda: cfg.FloatOpt(option["name"], min=low, max=high, **common),
        "list": lambda: cfg.ListOpt(option["name"], **common),
        "dictionary": lambda: cfg.DictOpt(option["name"], **common),
        "text, repeatable": lambda: cfg.MultiStrOpt(option["name"], **common),
    }
    return makers[kind]()


def register(conf, options):
    for option in options:
        group = None if option["group"] == "DEFAULT" else option["group"]
        conf.register_opt(declared(option), group=group)


class Environment:
    def __init__(self, variables):
        self.variables = variables

    def __enter__(self):
        os.environ.update(self.variables)

    def __exit__(self, *_):
        for name in self.variables:
            del os.environ[name]


def parsed(case):
    """Sections, keys and all values of one text."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8", newline="") as file:
        file.write(case["text"])
        file.flush()
        sections = {}
        try:
            cfg.ConfigParser(file.name, sections).parse()
        except cfg.ParseError as error:
            return {"line": error.lineno, "message": error.msg}
        return {"sections": sections}


def resolved(case):
    """Values of declared options, given files in order and an environment."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        for index, text in enumerate(case["files"]):
            path = os.path.join(folder, "%03d.conf" % index)
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            arguments += ["--config-file", path]
        conf = cfg.ConfigOpts()
        register(conf, case["options"])
        with Environment(case["environment"]):
            conf(arguments, project="trove", prog="trove-guestagent", default_config_files=[], default_config_dirs=[])
            return [value_of(conf, option) for option in case["options"]]


def searched(case):
    """Values, given a command line and folders for default files."""
    conf = cfg.ConfigOpts()
    register(conf, case["options"])
    cfg._get_config_dirs = lambda project=None: case["default_dirs"]
    with Environment({"HOME": case["home"]}):
        try:
            conf(case["arguments"], project="trove", prog="trove-guestagent")
        except cfg.Error as error:
            return {"error": type(error).__name__}
        return [value_of(conf, option) for option in case["options"]]


def url(case):
    try:
        found = transport.TransportURL.parse(cfg.ConfigOpts(), case["url"])
    except Exception as error:
        return {"error": type(error).__name__}
    hosts = [[host.hostname, host.port, host.username, host.password] for host in found.hosts]
    return {"scheme": found.transport, "virtual_host": found.virtual_host, "hosts": hosts, "query": sorted(found.query.items())}


_trove = []


def trove():
    """Trove's own options, with those of the libraries it uses, registered once."""
    if not _trove:
        from oslo_log import log
        from oslo_messaging._drivers import amqp, impl_rabbit
        from oslo_messaging import server
        from oslo_messaging.rpc import dispatcher
        from trove.common import cfg as trove_cfg

        conf = trove_cfg.CONF
        try:
            log.register_options(conf)
        except cfg.ArgsAlreadyParsedError:
            pass
        conf.register_opts(transport._transport_opts)
        conf.register_opts(server._pool_opts)
        conf.register_opts(dispatcher.opts if hasattr(dispatcher, "opts") else dispatcher._dispatcher_opts)
        conf.register_opts(amqp.amqp_opts, group="oslo_messaging_rabbit")
        conf.register_opts(impl_rabbit.rabbit_opts, group="oslo_messaging_rabbit")
        _trove.append((conf, trove_cfg))
    return _trove[0]


def defaults(case):
    """Defaults of the real options; null for an option the real thing does not have."""
    conf, _ = trove()
    conf([], project="trove", prog="trove-guestagent", default_config_files=[], default_config_dirs=[])
    answers = []
    for option in case["options"]:
        section = conf if option["group"] == "DEFAULT" else conf[option["group"]]
        answers.append({"value": plain(section[option["name"]])} if option["name"] in section else None)
    return answers


def property(case):
    """What Trove's get_configuration_property says, given files in order."""
    conf, trove_cfg = trove()
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        for index, text in enumerate(case["files"]):
            path = os.path.join(folder, "%03d.conf" % index)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            arguments += ["--config-file", path]
        conf(arguments, project="trove", prog="trove-guestagent", default_config_files=[], default_config_dirs=[])
        return [plain(trove_cfg.get_configuration_property(name)) for name in case["names"]]


ANSWERS = {"parse": parsed, "resolve": resolved, "search": searched, "url": url, "defaults": defaults, "property": property}


def main():
    cases = json.load(sys.stdin)
    # stdout is for the answers alone: libraries may print.
    out, sys.stdout = sys.stdout, sys.stderr
    json.dump([ANSWERS[case["ask"]](case) for case in cases], out)


if __name__ == "__main__":
    main()
