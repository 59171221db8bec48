"""The recorder's queue: nothing blocks, the right events are given up."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

from vk_provider.errors import KubeApiError
from vk_provider.kube.recorder import EventRecorder, RecorderLimits, reference_to

POD = {"metadata": {"name": "p", "namespace": "ns", "uid": "u1", "resourceVersion": "5"}, "spec": {}}


class Api:
    """Takes events; `refusals` are raised first."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.patched: list[tuple[str, dict[str, Any]]] = []
        self.refusals: list[KubeApiError] = []

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.refusals:
            raise self.refusals.pop()
        self.created.append(body)
        return body

    async def patch_strategic(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.refusals:
            raise self.refusals.pop()
        self.patched.append((path, body))
        return {"metadata": {"name": path.rsplit("/", 1)[1]}}


@asynccontextmanager
async def running(recorder: EventRecorder) -> Any:
    task = asyncio.create_task(recorder.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def recorder(api: Api, **limits: Any) -> EventRecorder:
    return EventRecorder(api, "node-1", limits=RecorderLimits(**limits))  # type: ignore[arg-type]


async def test_an_event_names_the_pod_the_container_and_the_node() -> None:
    api = Api()
    events = recorder(api)
    async with running(events):
        events.record(POD, "Normal", "Pulled", "have it", "spec.containers{c}")
        assert await events.flush(1)
    [event] = api.created
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "ns",
        "name": "p",
        "uid": "u1",
        "resourceVersion": "5",
        "fieldPath": "spec.containers{c}",
    }
    assert event["source"] == {"component": "kubelet", "host": "node-1"}
    assert (event["reportingComponent"], event["reportingInstance"]) == ("kubelet", "node-1")
    assert event["metadata"]["namespace"] == "ns"


async def test_equal_events_that_wait_become_one_with_a_count() -> None:
    api = Api()
    events = recorder(api)
    for _ in range(3):
        events.record(POD, "Warning", "BackOff", "again")
    async with running(events):
        await events.flush(1)
        events.record(POD, "Warning", "BackOff", "again")
        await events.flush(1)
    assert [event["count"] for event in api.created] == [3]
    assert [body["count"] for _, body in api.patched] == [4]


async def test_a_full_queue_gives_up_the_oldest_normal_event_first() -> None:
    api = Api()
    events = recorder(api, queue=2)
    for event_type, message in (("Warning", "w1"), ("Normal", "n1"), ("Normal", "n2"), ("Warning", "w2")):
        events.record(POD, event_type, "R", message)
    assert events.dropped == 2
    async with running(events):
        await events.flush(1)
    assert [event["message"] for event in api.created] == ["w1", "w2"]


async def test_an_expired_event_is_created_anew() -> None:
    api = Api()
    events = recorder(api)
    async with running(events):
        events.record(POD, "Normal", "R", "m")
        await events.flush(1)
        api.refusals = [KubeApiError(404, "NotFound", "gone")]
        events.record(POD, "Normal", "R", "m")
        await events.flush(1)
    assert [event["count"] for event in api.created] == [1, 1]


async def test_a_refused_event_is_dropped_and_the_next_one_goes_out() -> None:
    api = Api()
    api.refusals = [KubeApiError(403, "Forbidden", "namespace is being terminated")]
    events = recorder(api)
    async with running(events):
        events.record(POD, "Normal", "R", "m1")
        events.record(POD, "Normal", "R", "m2")
        await events.flush(1)
    assert (events.dropped, len(api.created)) == (1, 1)


async def test_flush_says_when_the_time_was_too_short() -> None:
    events = recorder(Api())
    events.record(POD, "Normal", "R", "m")
    assert not await events.flush(0.01)


def test_a_reference_passes_through_and_a_node_has_no_version() -> None:
    assert reference_to({"kind": "Node", "name": "n", "uid": "x"}) == {"kind": "Node", "name": "n", "uid": "x"}
    node = {"kind": "Node", "metadata": {"name": "n", "uid": "x", "resourceVersion": "1"}}
    assert "resourceVersion" not in reference_to(node)


async def test_events_of_a_namespace_that_goes_away_are_given_up_together() -> None:
    api = Api()
    gone = 'events "e" is forbidden: unable to create new content in namespace ns because it is being terminated'
    api.refusals = [KubeApiError(403, "Forbidden", gone) for _ in range(4)]
    events = recorder(api)
    for number in range(50):
        events.record(POD, "Normal", "Pulled", f"image {number}")
    events.record({**POD, "metadata": {**POD["metadata"], "namespace": "other"}}, "Normal", "Pulled", "have it")
    async with running(events):
        assert await events.flush(5)
    assert [event["metadata"]["namespace"] for event in api.created] == ["other"]
    assert events.dropped == 50
