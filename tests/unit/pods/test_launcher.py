"""A launch is one request until its outcome is known, and one token means one request."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

from tests.unit.pods.rig import NODE, OWNER, World
from tests.unit.pods.test_sweep import make_sweep
from vk_provider.cloud.base import TAG_LAUNCH, LaunchAnswer, LaunchFailure, LaunchRequest, Offering
from vk_provider.cloud.limits import CallLimits, LimitedCloud
from vk_provider.cloud.simulated.cloud import SimulationConfig
from vk_provider.errors import CloudError, CloudQuotaError
from vk_provider.jsontypes import Json
from vk_provider.pods.launch_request import build_request
from vk_provider.pods.record import PodRecord
from vk_provider.settings import NodeSettings

UIDS = ("0b6a3c3e-8d2f-4a60-93d5-1f1f8f0b7a11", "ffffffff-ffff-ffff-ffff-ffffffffffff")
OFFERINGS = (
    Offering("m7i-flex.metal-48xl", "ap-southeast-2a", "spot", "amd64", 1, 1, 1.0),
    Offering("m7i-flex.metal-48xl", "ap-southeast-2b", "spot", "amd64", 1, 1, 1.0),
)


def request_of(uid: str, attempt: int, offering: Offering, label: str = "a", told: str = "boot") -> LaunchRequest:
    pod: Json = {"metadata": {"name": "p", "namespace": "d", "uid": uid, "labels": {"app": label}}, "spec": {}}
    record = PodRecord(uid, NODE, pod, attempt=attempt)
    return build_request(record, OWNER, offering, 1 << 30, lambda token: (f"g-{told}/{token}", f"{told} {token}"))


def test_a_token_is_short_ascii_and_stands_for_everything_in_its_request() -> None:
    variants = list(itertools.product(UIDS, (0, 1, 99), OFFERINGS, ("a", "b"), ("boot", "next boot")))
    requests = [request_of(*variant) for variant in variants]
    tokens = {request.client_token for request in requests}
    assert len(tokens) == len(requests)
    assert all(len(token) <= 64 and token.isascii() for token in tokens)
    assert request_of(*variants[0]) == requests[0], "what is equal is the same launch, also after a restart"


def test_the_tag_and_the_user_data_of_a_launch_name_its_token() -> None:
    request = request_of(UIDS[0], 0, OFFERINGS[0])
    assert request.tags[TAG_LAUNCH] == f"g-boot/{request.client_token}"
    assert request.user_data == f"boot {request.client_token}"


class Calls:
    """Stands before the cloud's `launch` and remembers each request. `lost`: how many answers are lost next; `silent`:
    calls do nothing and do not answer within their limit."""

    def __init__(self, world: World) -> None:
        self.requests: list[LaunchRequest] = []
        self.lost, self.silent = 0, False
        self.refusal: CloudError | None = None
        self._launch = world.cloud.launch
        self.name, self.shares_host_paths = world.cloud.name, world.cloud.shares_host_paths
        self.group_limit, self.listing_lag_s = 1, 0.0
        limited = LimitedCloud(self, CallLimits(launch_s=0.05))  # type: ignore[arg-type]
        world.controller.executor._launcher._cloud = limited

    async def launch(self, request: LaunchRequest) -> LaunchAnswer:
        self.requests.append(request)
        if self.silent:
            await asyncio.Event().wait()
        if self.refusal is not None:
            return LaunchAnswer((), (LaunchFailure(request.offerings[0], self.refusal),))
        results = await self._launch(request)
        if self.lost:
            self.lost -= 1
            raise CloudError("Unavailable: the connection was reset")
        return results


def change(world: World, pod: Json) -> None:
    """The pod's labels and the master secret change."""
    record = world.record(pod)
    assert record is not None
    record.pod = {**record.pod, "metadata": {**record.pod["metadata"], "labels": {"app": "changed"}}}
    world.api.pods[("default", pod["metadata"]["name"])]["metadata"]["labels"] = {"app": "changed"}
    world.user_data = "rotated"


async def test_a_request_whose_answer_was_lost_is_repeated_as_it_was_whatever_changed_meanwhile(world: World) -> None:
    calls = Calls(world)
    calls.lost = 2
    pod = world.api.add(world.pod())
    await world.until(lambda: "FailedLaunch" in world.recorder.reasons())
    change(world, pod)
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert len(calls.requests) == 3 and calls.requests[1:] == [calls.requests[0]] * 2
    assert len(world.live_of(pod)) == 1
    record = world.record(pod)
    assert record is not None and record.launch is None


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
    assert world.controller.executor._node_facts(record)["sharedHostPaths"] == ["/tmp/x"]
    await world.stop()


async def crashed_in_a_launch(directory: Path) -> tuple[World, Json]:
    """The instance was launched, its provider died before the answer, and the cloud does not list it yet."""
    world = World(directory, SimulationConfig(visible_after_s=1000.0))
    await world.start()
    calls = Calls(world)
    calls.silent = True
    pod = world.api.add(world.pod())
    await world.until(lambda: calls.requests)
    await calls._launch(calls.requests[0])
    await world.crash()
    return world, pod


async def test_a_restarted_provider_finds_the_launch_of_the_one_before_by_its_token(tmp_path: Path) -> None:
    world, pod = await crashed_in_a_launch(tmp_path)
    await world.start()
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert len(world.cloud._instances) == 1
    await world.stop()


async def test_a_changed_pod_of_a_restarted_provider_gets_another_instance_and_the_first_is_swept(
    tmp_path: Path,
) -> None:
    world, pod = await crashed_in_a_launch(tmp_path)
    world.api.pods[("default", pod["metadata"]["name"])]["metadata"]["labels"] = {"app": "changed"}
    world.user_data = "rotated"
    await world.start()
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    record = world.record(pod)
    assert record is not None and record.instance is not None and len(world.live_of(pod)) == 2
    assert not [reason for reason in world.recorder.reasons() if "Refused" in reason]
    world.cloud.config = SimulationConfig()
    sweep = make_sweep(world)
    await sweep.sweep()
    await sweep.sweep()
    assert world.live_of(pod) == [record.instance]
    await world.stop()
