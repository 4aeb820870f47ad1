"""`log save` and `log tail` of python-troveclient: `troveclient_peer.py DETAILS FILE`, with the account in the environment.

DETAILS is what the guest answers to `guest_log_action`. The whole log goes to FILE, its last 40 lines to standard output.
"""

import json
import os
import sys
from types import SimpleNamespace

from swiftclient.client import Connection
from troveclient.v1.instances import Instances

details, path = json.loads(sys.argv[1]), sys.argv[2]
swift = Connection(preauthurl=os.environ["STORAGE_URL"], preauthtoken=os.environ["TOKEN"])
# The REST API passes the guest's answer on as it is.
api = SimpleNamespace(client=SimpleNamespace(post=lambda url, body: (SimpleNamespace(status_code=200), {"log": details})))
instances = Instances(api)
instances._get_swift_client = lambda: swift
instances.log_save(SimpleNamespace(id="instance"), details["name"], filename=path)
for part in instances.log_generator("instance", details["name"], lines=40)():
    sys.stdout.write(part)
