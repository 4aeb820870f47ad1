"""python-swiftclient at the other end: `swiftclient_peer.py upload|download CONTAINER OBJECT FILE slo|dlo`, with the account in the environment.

The Python agent stores with the same library; an upload with segments of 100000 bytes is what `swift upload --segment-size` makes.
"""

import json
import os
import sys

from swiftclient.service import SwiftService, SwiftUploadObject

verb, container, name, path, kind = sys.argv[1:]
options = {"os_storage_url": os.environ["STORAGE_URL"], "os_auth_token": os.environ["TOKEN"], "auth_version": "2.0"}
with SwiftService(options) as service:
    if verb == "upload":
        how = {"segment_size": 100_000, "use_slo": kind == "slo", "header": ["X-Object-Meta-Parent-Checksum: gr\u00f6\u00dfer 7"]}
        outcomes = list(service.upload(container, [SwiftUploadObject(path, object_name=name)], how))
    else:
        outcomes = list(service.download(container, [name], {"out_file": path}))
        stat = service.stat(container, [name])
        for entry in stat:
            print(json.dumps(entry["headers"]))
for outcome in outcomes:
    if not outcome["success"]:
        raise SystemExit(f"{outcome.get('action')}: {outcome.get('error')}")
