"""Agents' events on a real API server, with the provider's own rights."""

import asyncio
import json

from tests.integration.kube.conftest import Provider
from tests.integration.kube.test_rbac import check_allowed
from tests.integration.kube.waiting import running, until
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.recorder import EventRecorder
from vk_provider.pods.agent_events import AgentEventRelay
from vk_provider.wire.session import EventMessage

UID = "6e7b1f0e"


class GatedClient:
    """The provider's client; requests wait for `gate`."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self.gate = asyncio.Event()
        self.asked = 0

    async def create(self, path: str, body: Json) -> Json:
        self.asked += 1
        await self.gate.wait()
        return await self._client.create(path, body)

    async def patch_strategic(self, path: str, body: Json) -> Json:
        self.asked += 1
        await self.gate.wait()
        return await self._client.patch_strategic(path, body)


def message(seq: int, reason: str, timestamp: str = "2026-01-01T00:00:00Z", count: int = 1) -> EventMessage:
    return EventMessage(
        type="event",
        seq=seq,
        podUID=UID,
        eventType="Warning",
        reason=reason,
        message="Readiness probe failed: 503",
        fieldPath="spec.containers{c}",
        timestamp=timestamp,
        count=count,
    )


async def stored(provider: Provider, namespace: str) -> dict[str, int]:
    """Reason -> count. A reason that is there twice is an error."""
    answer = await provider.plane.kubectl_async("get", "events", "-n", namespace, "-o", "json")
    items = [item for item in json.loads(answer.stdout)["items"] if item["source"].get("component") == "kubelet"]
    found = {item["reason"]: item["count"] for item in items}
    assert len(found) == len(items)
    return found


async def test_an_acknowledgement_follows_the_event_and_a_successor_posts_nothing_twice(
    provider: Provider, namespace: str
) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "p", "uid": UID}
    client, acks = GatedClient(provider.client), list[int]()
    recorder = EventRecorder(client)
    relay = AgentEventRelay(recorder, acks.append)
    first = [message(7, "Unhealthy"), message(8, "Failed")]
    async with running(recorder.run()):
        for each in first:
            relay.receive(pod, "node-events", each)
        await until(lambda: client.asked)
        assert (acks, await stored(provider, namespace)) == ([], {})
        client.gate.set()
        await until(lambda: 8 in acks)
        assert await stored(provider, namespace) == {"Unhealthy": 1, "Failed": 1}
        relay.receive(pod, "node-events", message(9, "Unhealthy", count=3))
        await until(lambda: 9 in acks)
        assert await stored(provider, namespace) == {"Unhealthy": 4, "Failed": 1}
        client.gate.clear()
        relay.receive(pod, "node-events", message(10, "BackOff"))
        await until(lambda: client.asked == 4)
    assert acks[-1] == 9

    # That process died; its acknowledgements did not reach the agent, which repeats everything to the next one.
    next_recorder, acks_of_next = EventRecorder(provider.client), list[int]()
    successor = AgentEventRelay(next_recorder, acks_of_next.append)
    for each in (*first, message(9, "Unhealthy", count=3), message(10, "BackOff")):
        successor.receive(pod, "node-events", each)
    async with running(next_recorder.run()):
        await until(lambda: 10 in acks_of_next)
    assert await stored(provider, namespace) == {"Unhealthy": 4, "Failed": 1, "BackOff": 1}
    check_allowed(provider)


async def test_an_event_that_the_api_server_refuses_is_acknowledged(provider: Provider, namespace: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "p", "uid": UID}
    recorder, acks = EventRecorder(provider.client), list[int]()
    relay = AgentEventRelay(recorder, acks.append)
    async with running(recorder.run()):
        relay.receive(pod, "node-events", message(1, "Odd", timestamp="yesterday"))
        relay.receive(pod, "node-events", message(2, "Unhealthy"))
        await until(lambda: 2 in acks)
    assert await stored(provider, namespace) == {"Unhealthy": 1}
    assert recorder.dropped == 1
