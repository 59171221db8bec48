"""Which instances may be orphans at all."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.launching import tags_of_pod
from vk_provider.cloud.base import TAG_NODE, Instance, InstanceState, LaunchRequest
from vk_provider.errors import CloudError, KubeApiError
from vk_provider.instances import table
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.sweep import OrphanSweep, SweepRules, find_foreign_instances, select_candidates
from vk_provider.pods.archive import ArchiveLimits, LogArchive
from vk_provider.pods.witness import ApiWitness

from .rig import NODE, OWNER, World


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FAST_S", 0.0)


def make_instance(name: str, node: str = "n1", age_s: float = 1000.0, state: str = "running") -> Instance:
    return Instance(
        name, InstanceState(state), "t", "z", "on-demand", "amd64", "", "", 10_000.0 - age_s, {TAG_NODE: node}
    )


def select(*instances: Instance, claimed: set[str] = frozenset()) -> list[str]:
    found = select_candidates(list(instances), set(claimed), {"n1"}, 10_000.0, 120.0)
    return [instance.instance_id for instance in found]


def test_an_old_unclaimed_instance_of_our_node_is_a_candidate() -> None:
    assert select(make_instance("i-1")) == ["i-1"]


def test_young_claimed_foreign_and_dead_instances_are_not() -> None:
    assert select(make_instance("i-1", age_s=60)) == []
    assert select(make_instance("i-1"), claimed={"i-1"}) == []
    assert select(make_instance("i-1", node="other")) == []
    assert select(make_instance("i-1", state="terminated")) == []


INTERVAL_S = 60.0


def make_sweep(world: World, nodes: frozenset[str] = frozenset({NODE})) -> OrphanSweep:
    """Its clock goes on by an interval with each sweep."""
    world.room.table._began_at = float("-inf")
    return OrphanSweep(
        world.room,
        ApiWitness(world.controller.records, world.api),
        InstanceMetrics(CollectorRegistry()),
        SweepRules(nodes, INTERVAL_S, 0.0),
        itertools.count(1000.0, INTERVAL_S).__next__,
    )


async def launch(world: World, uid: str, name: str, token: str = "token") -> Instance:
    offering = (await world.cloud.describe_offerings())[0]
    tags = tags_of_pod(OWNER, NODE, uid, name)
    (instance,) = (await world.cloud.launch(LaunchRequest(token, (offering,), tags, "boot"))).instances
    return instance


async def test_an_orphan_ends_at_its_second_sighting(world: World) -> None:
    orphan = await launch(world, "gone", "gone")
    pod = await world.running()
    sweep = make_sweep(world)
    assert await sweep.sweep() == []
    assert await sweep.sweep() == [orphan.instance_id]
    assert world.live() == world.live_of(pod)


async def test_the_second_instance_of_a_pod_is_an_orphan_and_its_first_is_not(world: World) -> None:
    pod = await world.running()
    kept = world.live_of(pod)
    second = await launch(world, pod["metadata"]["uid"], pod["metadata"]["name"])
    sweep = make_sweep(world)
    await sweep.sweep()
    assert await sweep.sweep() == [second.instance_id]
    assert world.live() == kept


async def test_an_instance_that_was_not_listed_when_its_ended_pod_was_adopted_is_an_orphan(world: World) -> None:
    pod = world.pod()
    pod["status"] = {"phase": "Succeeded"}
    world.api.add(pod)
    await world.settle()
    late = await launch(world, pod["metadata"]["uid"], pod["metadata"]["name"])
    sweep = make_sweep(world)
    await sweep.sweep()
    assert await sweep.sweep() == [late.instance_id]


async def test_the_instance_of_a_pod_that_is_being_given_one_is_no_orphan(world: World) -> None:
    gate = asyncio.Event()
    original = world.cloud.launch

    async def slow(requests: Any) -> Any:
        answer = await original(requests)
        await gate.wait()
        return answer

    world.cloud.launch = slow
    pod = world.api.add(world.pod())
    await world.until(lambda: world.live_of(pod))
    sweep = make_sweep(world)
    assert (await sweep.sweep(), await sweep.sweep()) == ([], [])
    gate.set()
    await world.until(lambda: world.api.status(pod)["phase"] == "Running")


async def test_instances_of_a_node_that_is_not_configured_any_more_are_named_once_and_live(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    left = await launch(world, "gone", "gone")
    sweep = make_sweep(world, frozenset({"other"}))
    assert (await sweep.sweep(), await sweep.sweep()) == ([], [])
    told = [record.getMessage() for record in caplog.records if NODE in record.getMessage()]
    assert len(told) == 1 and left.instance_id in told[0]
    assert find_foreign_instances([left], {NODE}) == {}


async def test_a_sweep_in_which_a_side_failed_concludes_nothing_and_counts_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await launch(world, "gone", "gone")
    sweep = make_sweep(world)
    await sweep.sweep()
    world.cloud.failures.throttled = 1
    with pytest.raises(CloudError):
        await sweep.sweep()
    world.api.down = True
    with pytest.raises(KubeApiError):
        await sweep.sweep()
    assert len(world.live()) == 1


async def test_archives_of_pods_that_went_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept, gone = "0f0d1e4a-0000-4000-8000-000000000001", "0f0d1e4a-0000-4000-8000-000000000002"
    for name in (kept, gone, "apt", "journal"):
        (tmp_path / name).mkdir()
    await LogArchive(str(tmp_path), ArchiveLimits(1, 1, 1, 1.0)).keep_only([kept])
    assert sorted(os.listdir(tmp_path)) == [kept, "apt", "journal"]
