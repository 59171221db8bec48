"""The schema of what an agent may send up."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from vk_provider.wire.inbound import WireError, decode_tables_answer, decode_up, printable
from vk_provider.wire.session import MAX_UP_BYTES
from vk_provider.wire.tables import MAX_ANSWER_BYTES, MAX_CONNECTIONS
from vk_provider.wire.values import MAX_EVENT_TEXT

TIME = "2026-11-28T10:00:00Z"
HELLO: dict[str, Any] = {
    "type": "hello",
    "version": 1,
    "instanceID": "i-1",
    "podUID": "",
    "agentStartedAt": TIME,
}
STATUS: dict[str, Any] = {
    "type": "status",
    "podUID": "uid-1",
    "finished": False,
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": TIME}],
        "podIP": "10.0.0.2",
        "podIPs": [{"ip": "10.0.0.2"}],
        "containerStatuses": [
            {
                "name": "c",
                "state": {"running": {"startedAt": TIME}},
                "lastState": {"terminated": {"exitCode": 137, "startedAt": None, "finishedAt": None}},
                "ready": True,
                "started": True,
                "restartCount": 1,
                "image": "registry:5000/i:1",
                "imageID": "registry:5000/i@sha256:00",
                "containerID": "containerd://ab",
                "resources": {"requests": {"cpu": "100m", "memory": "1.5Gi"}},
                "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}},
            }
        ],
    },
}
EVENT: dict[str, Any] = {
    "type": "event",
    "seq": 7,
    "podUID": "uid-1",
    "eventType": "Warning",
    "reason": "BackOff",
    "message": "back-off\nrestarting",
    "fieldPath": "spec.containers{c}",
    "timestamp": TIME,
}
STATS: dict[str, Any] = {
    "type": "stats",
    "podUID": "uid-1",
    "timestamp": "2026-11-28T10:00:00.123Z",
    "pod": {
        "podRef": {"name": "p", "namespace": "ns", "uid": "uid-1"},
        "startTime": TIME,
        "cpu": {"time": TIME, "usageCoreNanoSeconds": 10, "usageNanoCores": 5},
        "containers": [{"name": "c", "memory": {"time": TIME, "workingSetBytes": 1000}}],
    },
    "node": {"cpu": {"usageCoreNanoSeconds": 10}, "fs": {"time": TIME, "availableBytes": 4096}},
    "cadvisor": [{"container": "c", "id": "/x", "samples": [["container_memory_rss", {"device": "sda"}, 1]]}],
    "probes": [{"container": "c", "probeType": "Liveness", "result": "successful", "count": 1}],
}


def changed(message: dict[str, Any], path: tuple[Any, ...], value: Any) -> bytes:
    document = json.loads(json.dumps(message))
    target = document
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "message", [HELLO, {**HELLO, "features": ["resize"], "memoryBytes": 2**33}, STATUS, EVENT, STATS]
)
def test_an_honest_message_passes_unchanged(message: dict[str, Any]) -> None:
    data = orjson.dumps(message)
    assert orjson.loads(orjson.dumps(decode_up(data))) == message
    assert decode_up(data.decode()) == decode_up(data)


def test_what_the_schema_does_not_name_is_left_out() -> None:
    data = changed(STATUS, ("status", "containerStatuses", 0, "nodeName"), {"a": ["b"]})
    assert decode_up(data) == STATUS


@pytest.mark.parametrize(
    ("message", "path", "value"),
    [
        (HELLO, ("version",), "1"),
        (HELLO, ("version",), 0),
        (HELLO, ("podUID",), None),
        (HELLO, ("podUID",), "../../etc"),
        (HELLO, ("features",), ["x"] * 65),
        (HELLO, ("memoryBytes",), -1),
        (HELLO, ("memoryBytes",), 2**63),
        (HELLO, ("type",), "goodbye"),
        (HELLO, ("type",), ["hello"]),
        (STATUS, ("status",), "Running"),
        (STATUS, ("status",), []),
        (STATUS, ("status",), None),
        (STATUS, ("finished",), 1),
        (STATUS, ("status", "phase"), "Flying"),
        (STATUS, ("status", "podIP"), "10.0.0.2\n"),
        (STATUS, ("status", "podIPs"), [{"ip": "::1"}] * 5),
        (STATUS, ("status", "conditions", 0, "type"), None),
        (STATUS, ("status", "conditions", 0, "lastTransitionTime"), "yesterday"),
        (STATUS, ("status", "conditions"), [{"type": "T", "status": "True"}] * 33),
        (STATUS, ("status", "containerStatuses", 0, "name"), "/etc/logrotate.d/evil"),
        (STATUS, ("status", "containerStatuses", 0, "name"), "../c"),
        (STATUS, ("status", "containerStatuses", 0, "restartCount"), 2**31),
        (STATUS, ("status", "containerStatuses", 0, "restartCount"), True),
        (STATUS, ("status", "containerStatuses", 0, "imageID"), "x" * 4097),
        (STATUS, ("status", "containerStatuses", 0, "resources", "requests"), {"cpu": "one"}),
        (STATUS, ("status", "containerStatuses", 0, "user", "linux", "uid"), -1),
        (EVENT, ("count",), "x"),
        (EVENT, ("count",), 0),
        (EVENT, ("count",), 2**64),
        (EVENT, ("seq",), 2**63),
        (EVENT, ("seq",), 1.5),
        (EVENT, ("seq",), -1),
        (EVENT, ("eventType",), "Fatal"),
        (EVENT, ("reason",), "a reason\nwith lines"),
        (EVENT, ("reason",), ""),
        (EVENT, ("message",), "x" * (MAX_EVENT_TEXT + 1)),
        (EVENT, ("fieldPath",), "spec\n"),
        (EVENT, ("timestamp",), 5),
        (STATS, ("pod",), None),
        (STATS, ("node",), []),
        (STATS, ("timestamp",), 5),
        (STATS, ("pod", "cpu"), "much"),
        (STATS, ("pod", "startTime"), [1]),
        (STATS, ("pod", "cpu", "usageCoreNanoSeconds"), "9"),
        (STATS, ("pod", "cpu", "usageCoreNanoSeconds"), 1.7e308),
        (STATS, ("pod", "cpu", "usageCoreNanoSeconds"), 2**64 - 1),
        (STATS, ("node", "cpu", "usageCoreNanoSeconds"), -1),
        (STATS, ("pod", "containers"), {"name": "c"}),
        (STATS, ("pod", "containers", 0, "name"), None),
        (STATS, ("pod", "containers", 0, "memory", "workingSetBytes"), []),
        (STATS, ("node", "memory"), [1]),
        (STATS, ("cadvisor",), {"a": 1}),
        (STATS, ("cadvisor", 0), "c"),
        (STATS, ("cadvisor", 0, "image"), 1),
        (STATS, ("cadvisor", 0, "samples", 0), ["name"]),
        (STATS, ("cadvisor", 0, "samples", 0, 0), "name 1\nevil"),
        (STATS, ("cadvisor", 0, "samples", 0, 1), {'x="y"} 1\n': "z"}),
        (STATS, ("cadvisor", 0, "samples", 0, 2), "1"),
        (STATS, ("cadvisor", 0, "samples", 0, 2), 1.7e308),
        (STATS, ("probes", 0, "count"), None),
        (STATS, ("node", "fs", "availableBytes"), -1),
        (STATS, ("node", "fs", "usedBytes"), -1),
        (STATS, ("node", "fs", "inodesUsed"), -1),
        (STATS, ("node", "fs", "usedBytes"), 2**63),
        (STATUS, ("status", "containerStatuses", 0, "resources", "requests"), {"cpu": "1e999999999"}),
        (STATS, ("probes", 0), {}),
    ],
)
def test_a_message_beyond_its_schema_is_refused(message: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(WireError):
        decode_up(changed(message, path, value))


TIMES = [
    (HELLO, ("agentStartedAt",)),
    (STATUS, ("status", "startTime")),
    (STATUS, ("status", "conditions", 0, "lastProbeTime")),
    (STATUS, ("status", "conditions", 0, "lastTransitionTime")),
    (STATUS, ("status", "containerStatuses", 0, "state", "running", "startedAt")),
    (STATUS, ("status", "containerStatuses", 0, "lastState", "terminated", "startedAt")),
    (STATUS, ("status", "containerStatuses", 0, "lastState", "terminated", "finishedAt")),
    (EVENT, ("timestamp",)),
    (STATS, ("timestamp",)),
    (STATS, ("pod", "startTime")),
    (STATS, ("pod", "cpu", "time")),
    (STATS, ("pod", "containers", 0, "memory", "time")),
    (STATS, ("node", "fs", "time")),
]


@pytest.mark.parametrize(("message", "path"), TIMES, ids=[".".join(map(str, path)) for _, path in TIMES])
def test_a_time_is_one_that_every_client_can_read(message: dict[str, Any], path: tuple[Any, ...]) -> None:
    for good in ("2028-02-29T23:59:59Z", "2000-02-29T00:00:00.123456789Z", "1970-01-01T00:00:00Z", TIME):
        decode_up(changed(message, path, good))
    for bad in (
        "2026-02-29T10:00:00Z",
        "2026-02-30T10:00:00Z",
        "2026-02-31T10:00:00Z",
        "2100-02-29T10:00:00Z",
        "2026-04-31T10:00:00Z",
        "2026-13-01T10:00:00Z",
        "2026-01-00T10:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T10:00:60Z",
        "9999-12-31T23:59:59-23:59",
        "0000-01-01T00:00:00Z",
        "2026-01-01T10:00:00",
        "2026-01-01 10:00:00Z",
        "2026-01-01T10:00:00Z\n",
        "",
        "x" * 100_000,
    ):
        with pytest.raises(WireError):
            decode_up(changed(message, path, bad))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"type":"hello","x":NaN}',
        b'{"type":"hello","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"type":"event","seq":' + b"9" * 100_000 + b"}",
        b" " * (MAX_UP_BYTES + 1),
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_up(data)


def test_the_reason_is_one_short_line() -> None:
    data = changed(HELLO, ("type",), "x\n\x1b[31m" + "y" * 10_000)
    with pytest.raises(WireError) as caught:
        decode_up(data)
    text = str(caught.value)
    assert len(text) < 300 and text.isprintable()
    assert printable("short") == "short"


CONNECTION: dict[str, Any] = {
    "protocol": "TCP",
    "source": "10.0.0.1",
    "sourcePort": 1,
    "port": 80,
    "endpoint": "fd00::1",
    "endpointPort": 8080,
    "answered": True,
}
INFO: dict[str, Any] = {"revision": "::1", "error": "x", "waiting": 0, "counts": {"applied": 1}}


def test_an_agents_answer_about_its_tables_is_decoded_and_unknown_fields_are_dropped() -> None:
    answer = {"tables": {"services": INFO}, "connections": [CONNECTION] * MAX_CONNECTIONS, "drops": {"egress": 3}}
    assert len(orjson.dumps(answer)) < MAX_ANSWER_BYTES
    assert decode_tables_answer(orjson.dumps({**answer, "more": 1})) == answer
    assert decode_tables_answer(b'{"tables": {}}') == {"tables": {}}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"tables": {"services": {**INFO, "revision": "\x1b[2J"}}},
        {"tables": {"services": {**INFO, "error": "x" * 1025}}},
        {"tables": {"services": {**INFO, "waiting": -1}}},
        {"tables": {}, "connections": [CONNECTION] * (MAX_CONNECTIONS + 1)},
        {"tables": {}, "connections": [{**CONNECTION, "protocol": "tcp\n"}]},
        {"tables": {}, "connections": [{**CONNECTION, "port": 65536}]},
        {"tables": {}, "connections": [{**CONNECTION, "endpoint": "web"}]},
        {"tables": {}, "drops": {"ingress": 2**63}},
        {"tables": {}, "more": "x" * MAX_ANSWER_BYTES},
    ],
    ids=range(10),
)
def test_an_answer_beyond_the_schema_is_refused_in_one_line(answer: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        decode_tables_answer(orjson.dumps(answer))
    assert str(caught.value).isprintable()
