"""A launch is one request until its outcome is known, and one token means one request."""

from __future__ import annotations

import asyncio
import copy
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.pods.rig import NODE, OWNER, World
from vk_provider.cloud.base import (
    TAG_GROUP,
    TAG_LAUNCH,
    TAG_POD_NAMESPACE,
    TAG_POD_UID,
    Instance,
    LaunchAnswer,
    LaunchFailure,
    LaunchRequest,
    Offering,
)
from vk_provider.cloud.limits import CallLimits, LimitedCloud
from vk_provider.cloud.parameters import check_same_parameters, digest_parameters
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.errors import CloudError, CloudQuotaError, CloudRequestError
from vk_provider.instances import table
from vk_provider.instances.demand import Demand, Group
from vk_provider.instances.request import freeze_request
from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.settings import NodeSettings
from vk_provider.sizing.selection import Selection


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FAST_S", 0.01)


UIDS = ("0b6a3c3e-8d2f-4a60-93d5-1f1f8f0b7a11", "ffffffff-ffff-ffff-ffff-ffffffffffff")
OFFERINGS = (
    Offering("m7i-flex.metal-48xl", "ap-southeast-2a", "spot", "amd64", 1, 1, 1.0),
    Offering("m7i-flex.metal-48xl", "ap-southeast-2b", "spot", "amd64", 1, 1, 1.0),
)


def demand_of(uid: str, attempt: int = 0) -> Demand:
    return Demand(uid, "d", "p", NODE, {"metadata": {}, "spec": {}}, attempt)


def request_of(
    uids: tuple[str, ...], attempt: int, offering: Offering, label: str = "a", told: str = "boot", store: str = ""
) -> LaunchRequest:
    group = Group(NODE, "d", {"app": label}, Selection(offering, (), 1 << 30, ""), (), f"digest{store}", store)
    demands = [demand_of(uid, attempt) for uid in uids]
    return freeze_request(group, demands, OWNER, lambda token: (f"g-{told}/{token}", f"{told} {token}"))


def test_a_token_is_short_ascii_and_stands_for_everything_in_its_request() -> None:
    pods = (UIDS[:1], UIDS[1:], UIDS)
    variants = list(itertools.product(pods, (0, 1, 99), OFFERINGS, ("a", "b"), ("boot", "next boot")))
    requests = [request_of(*variant) for variant in variants]
    tokens = {request.client_token for request in requests}
    assert len(tokens) == len(requests)
    assert all(len(token) <= 64 and token.isascii() for token in tokens)
    assert request_of(*variants[0]) == requests[0], "what is equal is the same launch, also after a restart"
    assert request_of(UIDS[::-1], 0, OFFERINGS[0]) == request_of(UIDS, 0, OFFERINGS[0]), "in whatever order"


def test_the_store_is_no_part_of_the_client_token() -> None:
    first, second = (request_of(UIDS, 0, OFFERINGS[0], store=store) for store in ("s1", ""))
    assert (first.image_store, second.image_store) == ("s1", "")
    assert first.tags[TAG_GROUP] != second.tags[TAG_GROUP]
    assert first.client_token == second.client_token
    check_same_parameters(second, digest_parameters(first))
    other = replace(second, tags={**second.tags, "pod/app": "b"})
    with pytest.raises(CloudRequestError, match="IdempotentParameterMismatch"):
        check_same_parameters(other, digest_parameters(first))


def test_the_tag_and_the_user_data_of_a_launch_name_its_token() -> None:
    request = request_of(UIDS[:1], 0, OFFERINGS[0])
    assert request.tags[TAG_LAUNCH] == f"g-boot/{request.client_token}"
    assert request.user_data == f"boot {request.client_token}"


def test_a_launch_for_one_pod_names_it_and_one_for_many_names_their_group_alone() -> None:
    one, many = request_of(UIDS[:1], 0, OFFERINGS[0]), request_of(UIDS, 0, OFFERINGS[0])
    assert (one.tags[TAG_POD_UID], one.count) == (UIDS[0], 1)
    assert TAG_POD_UID not in many.tags and many.count == 2
    for tags in (one.tags, many.tags):
        assert (tags[TAG_GROUP], tags[TAG_POD_NAMESPACE], tags["pod/app"]) == ("digest", "d", "a")


class Calls:
    """Stands before the cloud's `launch` and remembers each request. `lost`: how many answers are lost next; `silent`:
    calls do nothing and do not answer within their limit; `instead`: what the next calls bring."""

    def __init__(self, world: World) -> None:
        self.requests: list[LaunchRequest] = []
        self.lost, self.silent = 0, False
        self.instead: list[Instance] = []
        self.refusal: CloudError | None = None
        self._launch = world.cloud.launch
        self.name, self.shares_host_paths = world.cloud.name, world.cloud.shares_host_paths
        self.group_limit, self.listing_lag_s = world.cloud.group_limit, 0.0
        world.room.launches._calls._cloud = LimitedCloud(self, CallLimits(launch_s=0.05))

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        self.requests.append(request)
        if self.silent:
            await asyncio.Event().wait()
        if self.instead:
            return LaunchAnswer((self.instead.pop(),))
        if self.refusal is not None:
            return LaunchAnswer((), (LaunchFailure(request.offerings[0], self.refusal),))
        answer = await self._launch(request)
        if self.lost:
            self.lost -= 1
            raise CloudError("Unavailable: the connection was reset")
        return answer


def change(world: World, pod: Json) -> None:
    """The pod's labels and the master secret change."""
    record = world.record(pod)
    assert record is not None
    held = world.api.pods[("default", pod["metadata"]["name"])]
    held["metadata"]["labels"] = {"app": "changed"}
    world.controller.on_pod(NODE, "MODIFIED", copy.deepcopy(held))
    world.user_data = "rotated"


async def test_a_request_whose_answer_was_lost_is_looked_up_by_its_tag(world: World) -> None:
    calls = Calls(world)
    calls.lost = 1
    pod = world.api.add(world.pod())
    await world.until(lambda: "FailedLaunch" in world.recorder.reasons())
    change(world, pod)
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert len(calls.requests) == 1 and len(world.live_of(pod)) == 1


async def test_a_request_that_no_listing_shows_is_repeated_as_it_was_whatever_changed_meanwhile(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, SimulationConfig(visible_after_s=1000.0))
    await world.start()
    calls = Calls(world)
    calls.lost = 2
    pod = world.api.add(world.pod())
    await world.until(lambda: "FailedLaunch" in world.recorder.reasons())
    change(world, pod)
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert len(calls.requests) == 3 and calls.requests[1:] == [calls.requests[0]] * 2
    assert len(world.live_of(pod)) == 1
    record = world.record(pod)
    assert record is not None and record.assignment.demand is None
    await world.stop()


async def test_a_launch_without_an_answer_is_unknown_and_repeated(world: World) -> None:
    calls = Calls(world)
    calls.silent = True
    pod = world.api.add(world.pod())
    await world.until(lambda: "FailedLaunch" in world.recorder.reasons())
    assert any("no answer within" in message for _, message in world.recorder.events)
    change(world, pod)
    calls.silent = False
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert set(map(id, calls.requests)) == {id(calls.requests[0])}


async def test_a_token_whose_instance_serves_another_pod_is_used_up(world: World) -> None:
    """An earlier process has made the same call, and what it brought went to a pod that came first."""
    first = await world.running()
    (used,) = world.live_of(first)
    calls = Calls(world)
    calls.instead = [used]
    second = world.api.add(world.pod())
    await world.until(lambda: world.api.status(second).get("phase") == "Running")
    assert [request.client_token.rpartition("-")[2] for request in calls.requests] == ["0", "1"]
    assert used not in world.live_of(second) and len(world.live()) == 2


async def test_after_a_refusal_the_pod_as_it_is_now_is_launched(world: World) -> None:
    calls = Calls(world)
    calls.refusal = CloudQuotaError("InstanceLimitExceeded: one too many")
    pod = world.api.add(world.pod())
    await world.until(lambda: "FailedLaunch" in world.recorder.reasons())
    change(world, pod)
    calls.refusal = None
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    first, last = calls.requests[0], calls.requests[-1]
    assert last.tags["pod/app"] == "changed" and last.client_token != first.client_token


async def test_an_instance_shares_the_paths_of_its_node_and_a_cloud_that_cannot_says_so_on_the_pod(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.settings = replace(world.settings, nodes=(NodeSettings(NODE, shared_host_paths=("/tmp/x",)),))
    await world.start()
    calls = Calls(world)
    pod = world.api.add(world.pod())
    await world.until(lambda: world.api.status(pod).get("phase") == "Failed")
    assert [request.shared_host_paths for request in calls.requests] == [("/tmp/x",)]
    status = world.api.status(pod)
    assert status["reason"] == "InstanceRefused" and "share no directories" in status["message"]
    record = PodRecord("u", NODE, pod)
    assert world.controller.executor.sender.node_facts(record)["sharedHostPaths"] == ["/tmp/x"]
    await world.stop()


async def crashed_in_a_launch(directory: Path) -> tuple[World, Json]:
    """The instance was launched, its provider died before the answer, and the cloud does not list it yet."""
    world = World(directory, SimulationConfig(visible_after_s=0.5))
    await world.start()
    calls = Calls(world)
    calls.silent = True
    pod = world.api.add(world.pod())
    await world.until(lambda: calls.requests)
    await calls._launch(calls.requests[0])
    await world.crash()
    return world, pod


@pytest.mark.parametrize("changed", [False, True])
async def test_a_restarted_provider_launches_nothing_before_the_cloud_must_list_what_the_one_before_has_launched(
    tmp_path: Path, changed: bool
) -> None:
    world, pod = await crashed_in_a_launch(tmp_path)
    if changed:
        world.api.pods[("default", pod["metadata"]["name"])]["metadata"]["labels"] = {"app": "changed"}
        world.user_data = "rotated"
    await world.start()
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert len(world.cloud._instances) == 1
    await world.stop()
