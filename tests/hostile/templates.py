"""Messages that agents send, one of each kind, and what lies are made of. Names of what a test does not know beforehand
are placeholders: `fill` puts the real ones in.
"""

from __future__ import annotations

from typing import Any, get_args

from tests.jwt import make_token
from tests.listener import hello
from vk_provider.jsontypes import Json
from vk_provider.wire.session import FEATURES, UpMessage
from vk_provider.wire.tables import TABLES_FEATURE

OWN_UID = "00000000-0000-4000-8000-00000000000a"
HONEST_UID = "00000000-0000-4000-8000-00000000000b"
OTHER_UID = "00000000-0000-4000-8000-00000000000c"
HONEST_IP = "192.0.2.7"
TIME = "2026-11-28T10:00:00Z"
DIGEST = "sha256:" + "0" * 64
ALL_FEATURES = (*FEATURES, TABLES_FEATURE)
IMAGE = "127.0.0.1:9/hostile/i:1"
"""Of every pod: at a registry that nobody is."""


def fill(data: bytes, own_uid: str, honest_uid: str, honest_ip: str) -> bytes:
    """The message with the real names."""
    for placeholder, value in ((OWN_UID, own_uid), (HONEST_UID, honest_uid), (HONEST_IP, honest_ip)):
        data = data.replace(placeholder.encode(), value.encode())
    return data


_CONTAINER = {
    "name": "c",
    "state": {"running": {"startedAt": TIME}},
    "lastState": {"terminated": {"exitCode": 137, "startedAt": None, "finishedAt": None}},
    "ready": True,
    "started": True,
    "restartCount": 1,
    "image": "i:1",
    "imageID": "i@sha256:00",
    "containerID": "containerd://ab",
    "resources": {"requests": {"cpu": "100m"}},
    "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}},
}
_STATUS = {
    "type": "status",
    "podUID": OWN_UID,
    "finished": False,
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": TIME}],
        "hostIP": HONEST_IP,
        "podIP": HONEST_IP,
        "podIPs": [{"ip": HONEST_IP}],
        "startTime": TIME,
        "containerStatuses": [_CONTAINER],
    },
}
_EVENT = {
    "type": "event",
    "seq": 7,
    "podUID": OWN_UID,
    "eventType": "Warning",
    "reason": "BackOff",
    "message": "back-off",
    "fieldPath": "spec.containers{c}",
    "timestamp": TIME,
    "count": 2,
}
_CPU = {"time": TIME, "usageCoreNanoSeconds": 10, "usageNanoCores": 5}
_MEMORY = {"time": TIME, "workingSetBytes": 1000, "usageBytes": 1000, "rssBytes": 900}
_STATS = {
    "type": "stats",
    "podUID": OWN_UID,
    "timestamp": TIME,
    "pod": {
        "podRef": {"name": "honest", "namespace": "ns", "uid": HONEST_UID},
        "startTime": TIME,
        "cpu": _CPU,
        "memory": _MEMORY,
        "containers": [{"name": "c", "startTime": TIME, "cpu": _CPU, "memory": _MEMORY}],
        "network": {"time": TIME, "name": "eth0", "rxBytes": 1, "interfaces": [{"name": "eth0", "rxBytes": 1}]},
        "volume": [{"name": "v", "time": TIME, "usedBytes": 1}],
    },
    "node": {"cpu": _CPU, "memory": _MEMORY, "fs": {"time": TIME, "availableBytes": 4096}, "network": {"rxBytes": 3}},
    "cadvisor": [{"container": "c", "id": "/x", "samples": [["container_memory_rss", {"device": "sda"}, 1]]}],
    "probes": [{"container": "c", "probeType": "Liveness", "result": "successful", "count": 1}],
}
_HELLO = hello("i-1", OWN_UID, ALL_FEATURES)
_TABLES = {"type": "tables", "name": "services", "tables": {"services": "1::2"}, "error": "nft: no space"}
_IMAGES = {
    "type": "images",
    "podUID": OWN_UID,
    "images": [
        {"image": "r.io/a/b:1", "digests": [DIGEST], "sizeBytes": 7, "pulled": True, "seconds": 0.5},
        {"image": IMAGE, "digests": [DIGEST], "sizeBytes": 7, "pulled": True, "seconds": 0.5, "peerBytes": 7},
    ],
}
IDENTITY: Json = {
    "type": "identity",
    "podUID": OWN_UID,
    "tokens": [make_token(OWN_UID), make_token(HONEST_UID), make_token(OWN_UID, audience="other")],
}
_BLOBS = {
    "type": "blobs",
    "podUID": OWN_UID,
    "wanted": [DIGEST],
    "fetching": [DIGEST],
    "held": ["sha256:" + "1" * 64],
    "failed": [{"digest": DIGEST, "instance": "i-1"}],
    "peerBytes": 1,
    "registryBytes": 2,
}
_NOTICE = {"type": "notice", "podUID": OWN_UID, "action": "terminate", "time": "9999-12-31T23:59:59Z"}
TEMPLATES: tuple[Json, ...] = (_STATUS, _EVENT, _STATS, _HELLO, _TABLES, _IMAGES, IDENTITY, _BLOBS, _NOTICE)
KINDS = tuple(template["type"] for template in TEMPLATES)
"""Of messages up."""
assert len(set(KINDS)) == len(get_args(UpMessage)), "a kind of message has no template"

HOSTILE_TEXTS = (
    "/etc/logrotate.d/evil",
    "../../../../tmp/evil",
    "line\nanother {} 1\n# TYPE evil counter",
    '"} 1\nevil{x="',
    "\x00\x1b[31m",
    "\ud800",
    "\u202e\u0000",
    "9999-99-99T99:99:99Z",
    "2026-02-31T10:00:00Z",
    "2100-02-29T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999999-23:59",
    HONEST_UID,
    OTHER_UID,
    HONEST_IP,
    "::1",
    "169.254.169.254",
    "Succeeded",
    "honest",
    "1e999999999",
    "x" * 5_000,
    "x" * 70_000,
)
HOSTILE_NUMBERS = (-1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 10**400, 1.7e308, -0.0, 5e-324, 0.1)


def find_paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of everything in the document, the outermost first."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += find_paths(item, (*path, key))
    return found
