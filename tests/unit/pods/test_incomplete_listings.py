"""A provider starts while the cloud's answers lack instances that exist."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.launching import tags_of_pod
from vk_provider.cloud.base import Instance, InstancePage, InstanceState, LaunchAnswer, LaunchRequest
from vk_provider.instances import missing
from vk_provider.jsontypes import Json

from .rig import NODE, OWNER, World

pytestmark = pytest.mark.usefixtures("quick")

LISTINGS = 3
"""That lack something: the one before the start, and those of the search after it."""


class Listings:
    """What the cloud lists: as `show` says for the next `lacking` answers, then as it is."""

    def __init__(
        self, world: World, monkeypatch: pytest.MonkeyPatch, show: Callable[[Instance], Instance | None]
    ) -> None:
        self.asked, self.lacking = 0, LISTINGS
        self._visible, self._show = world.cloud.list_page, show
        monkeypatch.setattr(world.cloud, "list_page", self._answer)

    async def _answer(self, page: str = "") -> InstancePage:
        self.asked += 1
        answer = await self._visible(page)
        if self.asked > self.lacking:
            return answer
        return InstancePage(tuple(shown for each in answer.instances if (shown := self._show(each)) is not None))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers that lack something are of a shorter time."""
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 1.5)


async def launch_earlier_attempt(world: World, pod: Json) -> Instance:
    """An instance with the pod's tags on which it never ran."""
    offering = (await world.cloud.describe_offerings())[-1]
    tags = tags_of_pod(OWNER, NODE, pod["metadata"]["uid"], pod["metadata"]["name"])
    (made,) = (await world.cloud.launch(LaunchRequest("another-token", (offering,), tags, "boot"))).instances
    return made


@pytest.mark.parametrize("state", [InstanceState.TERMINATED, InstanceState.SHUTTING_DOWN, InstanceState.RUNNING])
async def test_a_pod_is_not_failed_for_the_end_of_an_instance_that_it_never_ran_on(
    world: World, monkeypatch: pytest.MonkeyPatch, state: InstanceState
) -> None:
    """One that did not boot, say: it is still listed, and the pod's own is not."""
    pod = await world.running()
    (own,) = world.live_of(pod)
    earlier = await launch_earlier_attempt(world, pod)
    await world.crash()
    world.connector.unreachable.add(earlier.instance_id)
    world.cloud.vanish(earlier.instance_id)
    old = {} if state is InstanceState.TERMINATED else {"primary_ip": earlier.primary_ip, "pod_ip": earlier.pod_ip}

    def show(each: Instance) -> Instance | None:
        if each.instance_id == earlier.instance_id:
            return replace(each, state=state, **old)
        return None if each.instance_id == own.instance_id else each

    listings = Listings(world, monkeypatch, show)
    await world.start()
    await world.until(lambda: listings.asked > LISTINGS)
    await world.until(lambda: (record := world.record(pod)) is not None and record.session is not None)
    assert world.live() == [own] and world.api.status(pod)["phase"] == "Running"
    assert "Failed" not in world.api.history


async def test_a_pod_whose_status_was_never_accepted_is_not_launched_by_an_answer_that_lacks_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the cloud knows of its instance, and what the cloud says is known not to be all."""
    await world.running()
    world.api.delay_s = 1000.0
    unpublished = world.api.add(world.pod())
    uid = unpublished["metadata"]["uid"]
    await world.until(lambda: any(agent.uid == uid for agent in world.connector._agents.values()))
    await world.crash()
    world.api.delay_s = 0.0
    # Another request than the one that was made for it: its token finds nothing.
    world.api.pods["default", unpublished["metadata"]["name"]]["metadata"]["labels"] = {"changed": "meanwhile"}
    before = world.live()
    listings = Listings(world, monkeypatch, lambda each: None)
    await world.start()
    await world.until(lambda: listings.asked > LISTINGS)
    await world.until(lambda: world.api.status(unpublished).get("phase") == "Running")
    assert world.live() == before, "none was launched beside them"


async def test_a_pod_that_is_new_is_launched_once_the_others_are_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.running()
    await world.crash()
    fresh = world.api.add(world.pod())
    listings = Listings(world, monkeypatch, lambda each: None)
    await world.start()
    await world.until(lambda: world.api.status(fresh).get("phase") == "Running")
    assert listings.asked > LISTINGS and len(world.live()) == 2


async def test_pods_that_were_found_are_no_crowd_beside_one_that_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty answer makes all of them doubtful; once they are found, the one is missing after the time of one."""
    pods = [await world.running() for _ in range(5)]
    await world.crash()
    gone = world.live_of(pods[0])[0].instance_id
    world.cloud.vanish(gone)
    world.cloud._instances.pop(gone)
    Listings(world, monkeypatch, lambda each: None)
    await world.start()
    await world.until(lambda: world.api.status(pods[0])["phase"] == "Failed")
    assert {world.api.status(pod)["phase"] for pod in pods[1:]} == {"Running"}


async def test_waiting_pods_are_launched_at_once_when_the_answer_lacks_nothing(world: World) -> None:
    await world.running()
    await world.crash()
    fresh = world.api.add(world.pod())
    await world.start()
    record = world.record(fresh)
    assert record is not None and not record.admission.hold
    await world.until(lambda: world.api.status(fresh).get("phase") == "Running")


async def test_an_instance_that_this_process_has_launched_has_no_pod_of_an_earlier_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its launch is not answered, its pod is deleted, and its agent is silent when a listing shows it."""
    await world.running()
    await world.crash()
    waiting = world.api.add(world.pod())
    listings = Listings(world, monkeypatch, lambda each: None)
    listings.lacking = 1_000_000
    launch = world.cloud.launch

    async def unanswered(request: LaunchRequest) -> LaunchAnswer:
        await launch(request)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(world.cloud, "launch", unanswered)
    await world.start()
    known = world.live()
    deleted = world.api.add(world.pod())
    await world.until(lambda: len(world.live()) > len(known))
    (new,) = (each for each in world.live() if each not in known)
    world.connector.unreachable.add(new.instance_id)
    world.api.remove(deleted)
    listings.lacking = 0
    await world.until(lambda: new.instance_id in world.room.supply.unclaimed)
    assert not world.room.supply.may_serve(waiting["metadata"]["uid"], NODE, "default")


async def test_pods_whose_instances_ended_before_they_started_are_launched_for_soon(world: World) -> None:
    """The ended instances are listed, so the answer is not one that lacks many."""
    world.connector.unreachable.add("*")
    pods = []
    for _ in range(5):
        pods.append(pod := world.api.add(world.pod()))
        await world.until(lambda pod=pod: world.api.status(pod).get("hostIP"))
    await world.crash()
    for instance in world.live():
        world.cloud.vanish(instance.instance_id)
    world.connector.unreachable.clear()
    await world.start()
    await world.until(lambda: {world.api.status(pod)["phase"] for pod in pods} == {"Running"})
