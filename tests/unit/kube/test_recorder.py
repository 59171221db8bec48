"""The recorder's queue: nothing blocks, the right events are given up."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

from vk_provider.errors import KubeApiError
from vk_provider.kube.recorder import EventRecorder, Occurrence, RecorderLimits, reference_to

POD = {"metadata": {"name": "p", "namespace": "ns", "uid": "u1", "resourceVersion": "5"}, "spec": {}}


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class Api:
    """Takes events; `refusals` are raised first. While `gate` is not set nothing is answered."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.patched: list[tuple[str, dict[str, Any]]] = []
        self.refusals: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def _answer(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        await self.gate.wait()
        if self.refusals:
            raise self.refusals.pop()

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        await self._answer()
        self.created.append(body)
        return body

    async def patch_strategic(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        await self._answer()
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


def recorder(api: Api, clock: Time | None = None, busy: bool = False, **limits: Any) -> EventRecorder:
    clock = clock or Time()
    return EventRecorder(
        api,
        "node-1",
        limits=RecorderLimits(**limits),
        busy=lambda: busy,
        clock=clock,
        sleep=clock.sleep,
    )


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"}, "spec": {}}


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_an_event_names_the_pod_the_container_and_the_node() -> None:
    api = Api()
    events = recorder(api)
    async with running(events):
        events.record(POD, "Normal", "Pulled", "have it", "spec.containers{c}")
        assert await events.flush(30)
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


async def test_a_long_message_is_posted_as_long_as_a_kubelet_posts_it() -> None:
    api = Api()
    events = recorder(api)
    said = "Liveness probe failed: " + "x" * 10 * 1024
    async with running(events):
        events.record(POD, "Warning", "Unhealthy", said)
        assert await events.flush(30)
    assert [event["message"] for event in api.created] == [said]


async def test_equal_events_that_wait_become_one_with_a_count() -> None:
    api = Api()
    events = recorder(api)
    for _ in range(3):
        events.record(POD, "Warning", "BackOff", "again")
    async with running(events):
        await events.flush(30)
        events.record(POD, "Warning", "BackOff", "again")
        await events.flush(30)
    assert [event["count"] for event in api.created] == [3]
    assert [body["count"] for _, body in api.patched] == [4]


async def test_a_full_queue_gives_up_the_oldest_normal_event_first() -> None:
    api = Api()
    events = recorder(api, queue=2)
    for event_type, message in (("Warning", "w1"), ("Normal", "n1"), ("Normal", "n2"), ("Warning", "w2")):
        events.record(POD, event_type, "R", message)
    assert events.dropped == 2
    async with running(events):
        await events.flush(30)
    assert [event["message"] for event in api.created] == ["w1", "w2"]


async def test_an_event_that_expired_meanwhile_is_created_again_with_its_count() -> None:
    api = Api()
    events = recorder(api)
    async with running(events):
        events.record(POD, "Normal", "R", "m")
        await events.flush(30)
        api.refusals = [KubeApiError(404, "NotFound", "gone")]
        events.record(POD, "Normal", "R", "m")
        await events.flush(30)
    first, second = api.created
    assert (first["count"], second["count"]) == (1, 2)
    assert first["metadata"]["name"] == second["metadata"]["name"]


async def test_a_refused_event_is_dropped_and_the_next_one_goes_out() -> None:
    api = Api()
    api.refusals = [KubeApiError(422, "Invalid", "no")]
    events = recorder(api)
    async with running(events):
        events.record(POD, "Normal", "R", "m1")
        events.record(POD, "Normal", "R", "m2")
        await events.flush(30)
    assert (events.dropped, len(api.created)) == (1, 1)


async def test_flush_says_when_the_time_was_too_short() -> None:
    events = recorder(Api())
    events.record(POD, "Normal", "R", "m")
    assert not await events.flush(0.01)


def test_a_reference_passes_through_and_a_node_has_no_version() -> None:
    assert reference_to({"kind": "Node", "name": "n", "uid": "x"}) == {"kind": "Node", "name": "n", "uid": "x"}
    node = {"kind": "Node", "metadata": {"name": "n", "uid": "x", "resourceVersion": "1"}}
    assert "resourceVersion" not in reference_to(node)


async def test_the_flood_of_one_pod_does_not_delay_the_event_of_another() -> None:
    api, clock = Api(), Time()
    events = recorder(api, clock, burst=1)
    for number in range(500):
        events.record(pod("loud"), "Normal", f"R{number}", "m")
    events.record(pod("quiet"), "Warning", "Failed", "m")
    began = clock.now
    async with running(events):
        await turns()
        assert "quiet" in [event["involvedObject"]["name"] for event in api.created[:2]]
        assert await events.flush(30)
    assert clock.now - began < 26 / 50, "what the filter holds back costs none of the rate"
    assert (len(api.created), events.dropped) == (26, 475)


async def test_objects_take_turns() -> None:
    api = Api()
    events = recorder(api)
    for name in ("a", "b", "c"):
        for number in range(3):
            events.record(pod(name), "Normal", f"R{number}", "m")
    async with running(events):
        assert await events.flush(30)
    order = [(event["involvedObject"]["name"], event["reason"]) for event in api.created]
    assert order == [(name, f"R{number}") for number in range(3) for name in ("a", "b", "c")]


async def test_events_go_slower_while_statuses_wait_but_they_go() -> None:
    took = []
    for busy in (False, True):
        clock = Time()
        events = recorder(Api(), clock, busy)
        for number in range(20):
            events.record(pod(f"p{number}"), "Normal", "R", "m")
        began = clock.now
        async with running(events):
            assert await events.flush(30)
        took.append(round(clock.now - began, 3))
    assert took == [0.0, 2.0]


async def test_an_equal_event_is_counted_while_the_first_is_being_posted() -> None:
    api = Api()
    api.gate.clear()
    events = recorder(api)
    async with running(events):
        events.record(POD, "Warning", "Unhealthy", "m")
        await turns()
        assert api.asked == 1
        for _ in range(4):
            events.record(POD, "Warning", "Unhealthy", "m")
        await turns()
        assert api.asked == 1, "nothing is sent before it is known under which name the first is stored"
        api.gate.set()
        assert await events.flush(30)
    assert [event["count"] for event in api.created] == [1]
    assert [body["count"] for _, body in api.patched] == [5]


async def test_equal_events_that_wait_need_one_request_and_so_one_leave_of_the_filter() -> None:
    api = Api()
    events = recorder(api)
    for _ in range(100):
        events.record(POD, "Warning", "Unhealthy", "m")
    events.record(POD, "Warning", "Failed", "other")
    async with running(events):
        assert await events.flush(30)
    assert [(event["reason"], event["count"]) for event in api.created] == [("Unhealthy", 100), ("Failed", 1)]
    assert events.dropped == 0


async def test_done_is_said_once_when_the_api_server_has_the_event() -> None:
    api, done = Api(), list[str]()
    api.gate.clear()
    events = recorder(api)
    events.record(POD, "Normal", "R", "m", occurrence=Occurrence(on_done=lambda: done.append("first")))
    events.record(POD, "Normal", "R", "m", occurrence=Occurrence(on_done=lambda: done.append("equal")))
    async with running(events):
        await turns()
        assert (api.asked, done) == (1, [])
        api.gate.set()
        assert await events.flush(30)
        assert done == ["first", "equal"]
        events.record(POD, "Normal", "R", "m", occurrence=Occurrence(on_done=lambda: done.append("counted up")))
        assert await events.flush(30)
    assert done == ["first", "equal", "counted up"]


async def test_done_is_said_once_of_what_is_given_up_on_purpose() -> None:
    done: list[str] = []
    api = Api()
    api.refusals = [KubeApiError(422, "Invalid", "no")]
    events = recorder(api, queue=26)
    for number in range(26):
        events.record(POD, "Normal", f"R{number}", "m", occurrence=Occurrence(on_done=lambda: done.append("pod")))
    assert done == ["pod"], "the 26th is held back by the filter"
    for number in range(2):
        events.record(
            pod(f"other{number}"), "Normal", "R", "m", occurrence=Occurrence(on_done=lambda: done.append("other"))
        )
    assert done == ["pod", "pod"], "the queue is full: the pod with the most events loses one"
    async with running(events):
        assert await events.flush(30)
    assert sorted(done) == ["other"] * 2 + ["pod"] * 26
    assert (len(api.created), events.posted, events.dropped) == (25, 25, 3)


async def test_an_api_server_that_does_not_answer_is_waited_for() -> None:
    api, clock, done = Api(), Time(), list[bool]()
    api.refusals = [KubeApiError(status, "", "away") for status in (0, 429) for _ in range(30)]
    events = recorder(api, clock)
    events.record(POD, "Warning", "R", "m", occurrence=Occurrence(on_done=lambda: done.append(True)))
    async with running(events):
        assert await events.flush(30)
    assert (done, events.posted, events.dropped) == ([True], 1, 0)
    assert clock.now - 1000 > 300


async def test_an_api_server_that_answers_with_errors_only_is_given_up_in_the_end() -> None:
    api, done = Api(), list[bool]()
    api.refusals = [KubeApiError(500, "InternalError", "no") for _ in range(12)]
    events = recorder(api)
    events.record(POD, "Warning", "R", "m", occurrence=Occurrence(on_done=lambda: done.append(True)))
    async with running(events):
        assert await events.flush(30)
    assert (api.asked, done, events.dropped) == (12, [True], 1)


async def test_an_event_that_cannot_be_sent_at_all_ends_nothing_but_itself() -> None:
    api, done = Api(), list[bool]()
    api.refusals = [TypeError("str is not valid UTF-8: surrogates not allowed") for _ in range(4)]
    events = recorder(api)
    for number in range(5):
        events.record(pod(f"p{number}"), "Normal", "R", "m", occurrence=Occurrence(on_done=lambda: done.append(True)))
    async with running(events):
        assert await events.flush(30)
    assert (len(done), events.dropped, len(api.created)) == (5, 4, 1)


async def test_an_event_that_exists_was_posted_before() -> None:
    api, done = Api(), list[bool]()
    api.refusals = [KubeApiError(409, "AlreadyExists", "it exists") for _ in range(2)]
    events = recorder(api)
    events.record(
        pod("a"), "Normal", "R", "m", occurrence=Occurrence(name_suffix="1f", on_done=lambda: done.append(True))
    )
    events.record(
        pod("b"),
        "Normal",
        "R",
        "m",
        occurrence=Occurrence(name_suffix="1f", count=3, on_done=lambda: done.append(True)),
    )
    async with running(events):
        assert await events.flush(30)
    assert (done, events.posted, events.dropped, api.created) == ([True] * 2, 2, 0, [])
    assert [(path.rsplit("/", 1)[1], body["count"]) for path, body in api.patched] == [("b.1f", 3)]


async def test_the_name_of_an_event_is_not_too_long_for_the_api() -> None:
    api = Api()
    events = recorder(api)
    events.record(
        pod("a" * 235 + "." + "b" * 17), "Normal", "R", "m", occurrence=Occurrence(name_suffix="0123456789abcdef")
    )
    async with running(events):
        assert await events.flush(30)
    assert api.created[0]["metadata"]["name"] == "a" * 235 + ".0123456789abcdef"


async def test_events_of_a_namespace_that_goes_away_are_given_up_together() -> None:
    api = Api()
    gone = 'events "e" is forbidden: unable to create new content in namespace ns because it is being terminated'
    api.refusals = [KubeApiError(403, "Forbidden", gone) for _ in range(4)]
    events = recorder(api)
    done: list[bool] = []
    for number in range(50):
        events.record(
            pod(f"p{number}"), "Normal", "Pulled", "have it", occurrence=Occurrence(on_done=lambda: done.append(True))
        )
    events.record({**POD, "metadata": {**POD["metadata"], "namespace": "other"}}, "Normal", "Pulled", "have it")
    async with running(events):
        assert await events.flush(30)
    assert [event["metadata"]["namespace"] for event in api.created] == ["other"]
    assert (events.dropped, len(done)) == (50, 50)


async def test_a_message_that_quotes_a_file_name_that_is_no_text_is_posted() -> None:
    api = Api()
    recorder = EventRecorder(api)
    async with running(recorder):
        recorder.record(POD, "Warning", "Odd", "no such file: \udcff")
        assert await recorder.flush(5.0)
    assert [each["message"] for each in api.created] == ["no such file: ?"]
