"""Ten thousand messages of every kind through the whole door, as fast as they can be made: what gets through hurts
neither the pod's own status nor any document that the honest pod is in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

import orjson
from hypothesis import HealthCheck, Phase, given, settings
from prometheus_client import CollectorRegistry

from tests.hostile.apitypes import check_status, check_summary
from tests.hostile.honest import check_exposition, check_stranger
from tests.hostile.messages import MESSAGES
from tests.hostile.templates import KINDS, OWN_UID
from tests.jwt import AUDIENCE
from tests.unit.agentclient.test_tables import Agent, Source
from tests.unit.kubelet.endpoints.test_stats import make_sample
from tests.unit.kubelet.rig import FakeHandle, FakeSource, running_status
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.errors import AgentProtocolError
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json
from vk_provider.kubelet.endpoints.metrics_cadvisor import render_cadvisor_metrics
from vk_provider.kubelet.endpoints.metrics_probes import render_probe_metrics
from vk_provider.kubelet.endpoints.metrics_resource import render_resource_metrics
from vk_provider.kubelet.endpoints.running_pods import build_running_pod
from vk_provider.kubelet.samples import NodeSamples
from vk_provider.podidentity.claims import find_fault
from vk_provider.podmodel.imagename import parse_image
from vk_provider.pods.agent_report import accept_status
from vk_provider.pods.agent_sample import accept_stats
from vk_provider.pods.metrics import TableMetrics
from vk_provider.pods.record import PodRecord
from vk_provider.pods.status_patch import build_status_patch, compute_desired, is_published, keep_transition_times
from vk_provider.pods.tables import PodTables
from vk_provider.preparing.preparer import by_reference
from vk_provider.rfc3339 import parse_time
from vk_provider.wire.inbound import WireError, decode_up
from vk_provider.wire.session import StatsMessage
from vk_provider.wire.tables import TablesMessage
from vk_provider.wire.values import MAX_EVENT_TEXT

MESSAGES_TRIED = 10_000
NOW = 1_795_860_000.0
TIME = "2026-11-28T10:00:00Z"
ADDRESSES = "127.0.0.1", "127.0.0.2"
INSTANCE = Instance("i-1", InstanceState.RUNNING, "t", "z", "on-demand", "amd64", *ADDRESSES, NOW - 60)
POD: Json = {
    "metadata": {"name": "hostile", "namespace": "ns", "uid": OWN_UID, "resourceVersion": "1"},
    "spec": {"nodeName": "node-1", "containers": [{"name": "c"}]},
}
HONEST = {"metadata": {"name": "honest", "namespace": "ns", "uid": "uid-1"}, "spec": {"containers": [{"name": "c"}]}}
HONEST_SAMPLE = make_sample("honest", "uid-1")

Result = TypeVar("Result")
seen: Counter[str] = Counter()


def run_at_once(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """A coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


def take(data: bytes) -> str:
    """Treat one message as a session, the controller and the kubelet API do; says what became of it."""
    try:
        message = decode_up(data)
    except WireError as error:
        assert str(error).isprintable() and len(str(error)) < 300
        return "refused"
    if message["type"] == "status":
        judge_status(accept_status(message["status"], POD, INSTANCE))
    elif message["type"] == "stats":
        try:
            judge_stats(message)
        except AgentProtocolError as error:
            assert str(error).isprintable() and len(str(error)) < 300
            return "refused"
    elif message["type"] == "tables":
        judge_tables(message)
    elif message["type"] == "images":
        for reference, digests in by_reference(message).items():
            assert parse_image(reference).canonical == reference and all(len(digest) == 71 for digest in digests)
    elif message["type"] == "identity":
        for token in message["tokens"]:
            status, fault = find_fault(token, OWN_UID, AUDIENCE, NOW)
            assert fault.isprintable() and len(fault) < 300 and (not status or token not in fault)
    elif message["type"] == "notice":
        assert parse_time(message["time"]) > -3.1e10
    elif message["type"] == "blobs":
        assert all(len(digest) == 71 for digest in (*message["wanted"], *message["fetching"], *message["held"]))
    elif message["type"] == "event":
        assert "\n" not in message["reason"] and len(message["message"]) <= MAX_EVENT_TEXT
    return message["type"]


def judge_status(status: Json) -> None:
    check_stranger({"status": status}, ADDRESSES)
    desired = compute_desired(status, None, None)
    published = keep_transition_times(desired, {"conditions": [{"type": "Ready", "status": "False"}]}, TIME)
    patch = build_status_patch(OWN_UID, None, published)
    assert orjson.loads(orjson.dumps(patch)) == json.loads(json.dumps(patch))
    assert is_published(published, published)
    orjson.dumps(build_running_pod({**POD, "status": status}))
    for document in (status, published):
        check_status(orjson.dumps(document))


def judge_tables(message: TablesMessage) -> None:
    """Whatever the agent says of its tables, it is sent no whole table before the back-off, and reports are lines."""
    agent = Agent(Source("1::1", "1::2"), "1::1")
    record = PodRecord(OWN_UID, "node-1", POD)
    record.assignment.take(OwnedInstance(INSTANCE, tables=[agent.flow]))
    tables = PodTables(lambda _: (), lambda *_: None, TableMetrics(CollectorRegistry()), lambda: [record])
    sent: list[str] = []
    for _ in range(4):
        sent += [text for text in [run_at_once(agent.read())] if text]
        tables.receive(record, message)
    assert len([text for text in sent if text.startswith(">")]) <= 1
    assert all(failure.isprintable() and len(failure) < 300 for failure in agent.failures)


def judge_stats(message: StatsMessage) -> None:
    twin = {**POD, "metadata": {**POD["metadata"], "name": "twin"}}
    handles = [FakeHandle(HONEST, running_status(), INSTANCE, stats=HONEST_SAMPLE)]
    for pod in (POD, twin):
        sample = accept_stats(message, pod, INSTANCE, 1_000, 1 << 30, NOW)
        handles.append(FakeHandle(pod, running_status(), INSTANCE, stats=sample))
    source: Any = FakeSource(handles)
    samples = NodeSamples("node-1", source, started_at=0.0)
    collected = run_at_once(samples.collect())
    summary = run_at_once(samples.build_summary())
    document = orjson.dumps(summary)
    check_summary(document)
    assert orjson.loads(document)["pods"][0] == HONEST_SAMPLE["pod"]
    assert {pod["podRef"]["uid"] for pod in summary["pods"][1:]} == {OWN_UID}
    for text in (
        "".join(render_resource_metrics(summary)),
        "".join(render_cadvisor_metrics(collected)),
        "".join(render_probe_metrics(collected)),
    ):
        check_exposition(text)
        honest = [line for line in text.splitlines() if 'pod="honest"' in line]
        alone = [line for line in text.splitlines() if 'pod="hostile"' not in line and 'pod="twin"' not in line]
        assert set(honest) <= set(alone)


@settings(
    derandomize=True,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    max_examples=MESSAGES_TRIED,
    suppress_health_check=list(HealthCheck),
)
@given(MESSAGES)
def test_ten_thousand_messages_are_refused_in_one_line_or_do_no_harm(data: bytes) -> None:
    seen[take(data)] += 1


def test_enough_messages_of_every_kind_went_through_the_door() -> None:
    """The test above means nothing when nearly everything is refused."""
    assert seen.total() >= MESSAGES_TRIED
    assert all(seen[kind] > MESSAGES_TRIED / 80 for kind in (*KINDS, "refused")), seen
