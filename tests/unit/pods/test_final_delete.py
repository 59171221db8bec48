"""The final DELETE of a pod: until it is accepted, and no more. Source: syncPod, canBeDeleted (status_manager.go)."""

from __future__ import annotations

from typing import Any

import pytest

from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.pods import deletion
from vk_provider.pods.record import PodRecord
from vk_provider.pods.state import compute_state, next_look_s

from .rig import World

GRACE_S = 40.0
pytestmark = pytest.mark.usefixtures("quick")


class Refusing:
    """The API server, or a webhook of it, refuses DELETEs until `accepts`; a finalizer holds what is deleted."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, *, accepts: bool) -> None:
        self.accepts, self.asked = accepts, 0
        self._world = world
        monkeypatch.setattr(world.api, "delete", self.delete)
        monkeypatch.setattr(deletion, "RETRY_FIRST_S", 0.01)
        monkeypatch.setattr(deletion, "RETRY_MAX_S", 0.02)

    async def delete(self, path: str, body: Json) -> None:
        self.asked += 1
        if not self.accepts:
            raise KubeApiError(403, "Forbidden", "admission webhook denied the request")


def timers(world: World) -> Any:
    return world.controller._workers._timers


def record_of(world: World, pod: Json) -> PodRecord:
    record = world.record(pod)
    assert record is not None
    return record


async def test_one_that_is_not_accepted_is_sent_again_and_does_not_keep_the_instance(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Refusing(world, monkeypatch, accepts=False)
    pod = await world.running()
    world.api.mark_deleting(pod)
    await world.until(lambda: api.asked >= 4)
    assert not world.live()
    api.accepts = True
    await world.until(lambda: record_of(world, pod).leaving.deletion.accepted)
    await world.settle()
    asked = api.asked
    world.controller.wake(pod["metadata"]["uid"])
    await world.settle()
    assert api.asked == asked


async def test_an_accepted_one_is_not_repeated_while_a_finalizer_holds_the_object(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Refusing(world, monkeypatch, accepts=True)
    pod = await world.running()
    world.api.mark_deleting(pod)
    await world.until(lambda: api.asked and not world.live())
    await world.settle()
    world.api.pods[("default", pod["metadata"]["name"])]["metadata"]["labels"] = {"a": "b"}
    world.api.set_status(pod)  # something of the object changes
    await world.settle()
    assert (api.asked, pod["metadata"]["uid"] in timers(world)) == (1, False), "nothing is looked at again by the clock"
    world.api.remove(pod)
    await world.until(lambda: world.record(pod) is None)


async def test_after_a_restart_it_is_sent_once_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    api = Refusing(world, monkeypatch, accepts=True)
    pod = await world.running()
    world.api.mark_deleting(pod)
    await world.until(lambda: api.asked == 1 and not world.live())
    await world.settle()
    patches = len(world.api.patches)
    await world.crash()
    await world.start()
    await world.until(lambda: api.asked == 2)
    await world.settle()
    assert (api.asked, len(world.api.patches)) == (2, patches)


async def test_it_waits_for_a_phase_that_another_writer_took_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """canBeDeleted: the API's phase is terminal."""
    api = Refusing(world, monkeypatch, accepts=False)
    pod = await world.running()
    world.api.mark_deleting(pod)
    await world.until(lambda: api.asked)
    world.api.set_status(pod, phase="Running")
    await world.until(lambda: world.api.status(pod)["phase"] == "Succeeded")
    await world.settle()
    phases: list[str] = []

    async def delete(path: str, body: Json) -> None:
        phases.append(world.api.status(pod)["phase"])

    monkeypatch.setattr(world.api, "delete", delete)
    world.api.set_status(pod, phase="Running")  # put right no sooner than after ten seconds, as just before
    await world.settle()
    world.controller.wake(pod["metadata"]["uid"])
    await world.settle()
    assert phases == []
    record_of(world, pod).publication.restored_at = 0.0
    world.controller.wake(pod["metadata"]["uid"])
    await world.until(lambda: phases)
    assert phases == ["Succeeded"]


def ended(**deletion_fields: Any) -> PodRecord:
    status: Json = {"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 1}}}]}
    metadata = {"name": "p", "namespace": "d", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    record = PodRecord("u", "n", {"metadata": metadata, "spec": {"containers": [{"name": "c"}]}, "status": status})
    record.report.conclude(status)
    record.publication.held = status
    for name, value in deletion_fields.items():
        setattr(record.leaving.deletion, name, value)
    return record


@pytest.mark.parametrize(
    ("fields", "due", "next_s"),
    [
        ({}, True, None),
        ({"due_at": 107.0}, False, 7.0),
        ({"due_at": 99.0}, True, None),
        ({"due_at": 107.0, "accepted": True}, False, None),
    ],
)
def test_only_one_that_was_not_accepted_is_waited_for(fields: Json, due: bool, next_s: float | None) -> None:
    record = ended(**fields)
    state = compute_state(record, 100.0, GRACE_S)
    assert state.delete_due is due
    assert next_look_s(record, state, 100.0, 100.0, GRACE_S) == next_s


@pytest.mark.parametrize(
    ("held", "refused", "may"),
    [({"phase": "Failed"}, None, True), ({"phase": "Running"}, None, False), ({"phase": "Running"}, {"x": 1}, True)],
)
def test_the_object_may_be_deleted_with_a_terminal_phase_or_when_it_takes_none(
    held: Json, refused: Json | None, may: bool
) -> None:
    record = ended()
    record.publication.held, record.publication.refused = held, refused
    assert compute_state(record, 100.0, GRACE_S).status.held_ended is may
