"""The small parts: pace, shortages, the table's memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.launching import launch_one
from vk_provider.cloud.base import TAG_OWNER, TAG_POOL, Instance, InstanceState, LaunchRequest, Offering
from vk_provider.cloud.codes import build_error
from vk_provider.cloud.simulated.cloud import SimulatedCloud
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.errors import CapacityError, CloudError, CloudQuotaError, CloudRequestError, CloudThrottledError
from vk_provider.instances import missing, pace, table
from vk_provider.instances.instance import OwnedInstance, Stage
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.pace import Pace
from vk_provider.instances.shortages import CAPACITY_TTL_S, Shortages
from vk_provider.instances.table import InstanceTable
from vk_provider.ledger.meter import Meter

ZONES, TYPES, KINDS = ("a", "b"), ("m7i.large", "m7i.xlarge", "c7g.large"), ("spot", "on-demand")
OFFERINGS = [Offering(kind, zone, buy, "amd64", 1, 1, 1.0) for kind in TYPES for zone in ZONES for buy in KINDS]


@pytest.mark.parametrize(
    ("code", "kind", "short"),
    [
        ("InsufficientInstanceCapacity", CapacityError, 1),
        ("UnfulfillableCapacity", CapacityError, 1),
        ("MaxSpotInstanceCountExceeded", CapacityError, 6),
        ("InsufficientFreeAddressesInSubnet", CapacityError, 6),
        ("VcpuLimitExceeded", CloudQuotaError, 8),
        ("InstanceLimitExceeded", CloudQuotaError, 0),
        ("RequestLimitExceeded", CloudThrottledError, 0),
        ("InternalError", CloudError, 0),
        ("InvalidParameterValue", CloudRequestError, 0),
    ],
)
def test_a_code_says_what_to_avoid_for_a_while(code: str, kind: type, short: int) -> None:
    now = [100.0]
    shortages = Shortages(OFFERINGS, lambda: now[0])
    error = build_error(code, "no", OFFERINGS[0])
    assert type(error) is kind
    shortages.mark(OFFERINGS[0], error)
    assert len(shortages.unavailable()) == short
    assert shortages.unavailable() is shortages.unavailable(), "the same object while nothing has changed"
    now[0] += CAPACITY_TTL_S + 1
    assert shortages.unavailable() == frozenset() and shortages.current() == []


def test_only_what_may_have_been_done_is_looked_up() -> None:
    unknown = {code for code in ("RequestLimitExceeded", "InternalError", "Unavailable", "VcpuLimitExceeded")}
    assert {code for code in unknown if build_error(code, "x").effect_unknown} == {"InternalError", "Unavailable"}


async def test_a_throttled_queue_goes_slower_and_then_faster_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], list[float]()

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)
        now[0] += delay_s

    monkeypatch.setattr(pace.asyncio, "sleep", sleep)
    queue = Pace(1, lambda: now[0])
    for retry_after_s in (0.0, 0.0, 7.0):
        with pytest.raises(CloudThrottledError):
            async with queue.turn():
                raise CloudThrottledError("slower", retry_after_s)
    assert (queue.pause_s, queue.wait_s) == (2.0, 7.0), "as long as the cloud asks for"
    for _ in range(20):
        async with queue.turn():
            pass
    assert queue.pause_s == 0.0 and slept[0] == 0.5
    now[0] += 100
    async with queue.turn():
        pass
    assert queue.wait_s == 0.0


async def make_table(
    config: SimulationConfig, clock: Any = None
) -> tuple[SimulatedCloud, InstanceTable, OwnedInstance]:
    cloud = SimulatedCloud(config, "o") if clock is None else SimulatedCloud(config, "o", clock)
    made = InstanceTable(cloud, InstanceMetrics(CollectorRegistry()), Meter(lambda _: 1.0), lambda owned, notice: None)
    offering = (await cloud.describe_offerings())[0]
    instance = await launch_one(cloud, LaunchRequest("t", (offering,), {TAG_OWNER: "o"}, "{}"))
    assert isinstance(instance, Instance)
    owned = OwnedInstance(instance)
    made.add(owned)
    return cloud, made, owned


async def test_all_who_ask_share_a_listing_that_began_after_they_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FAST_S", 0.0)
    cloud, made, owned = await make_table(SimulationConfig())
    calls, gate = 0, asyncio.Event()
    original = cloud.list_page

    async def slow(page: str = "") -> Any:
        nonlocal calls
        calls += 1
        answer = await original(page)
        await gate.wait()
        return answer

    cloud.list_page = slow
    first = [asyncio.create_task(made.refresh()) for _ in range(5)]
    await asyncio.sleep(0.01)
    cloud.vanish(owned.instance_id)
    late = [asyncio.create_task(made.look(owned.instance_id)) for _ in range(5)]
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(*first)
    found = await asyncio.gather(*late)
    assert calls == 2 and {each.state for each in found if each} == {InstanceState.TERMINATED}
    await made.close()


async def test_an_older_answer_changes_nothing_and_one_without_the_address_neither() -> None:
    _, made, owned = await make_table(SimulationConfig())
    known = owned.described
    made.learn(owned, replace(known, primary_ip="", pod_ip=""))
    assert owned.described is known
    ending = replace(known, state=InstanceState.SHUTTING_DOWN)
    made.learn(owned, ending)
    made.learn(owned, known)
    assert owned.described is ending and owned.stage is Stage.ENDING


async def test_a_listing_that_lacks_an_instance_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FAST_S", 0.0)
    monkeypatch.setattr(table, "NEW_S", 0.0)
    _, made, owned = await make_table(SimulationConfig())
    made.take([])
    made.take([])
    assert owned.is_live and not made._missing


async def test_of_an_answer_to_a_launch_without_an_address_every_listing_is_better() -> None:
    """A fleet's answer has the time of the answer, which is later than what the cloud says of the launch."""
    _, made, owned = await make_table(SimulationConfig())
    found = replace(owned.described, tags={**owned.described.tags, TAG_POOL: "pool"})
    owned.described = replace(found, launch_time=found.launch_time + 2, primary_ip="", pod_ip="")
    assert owned.pool
    made.learn(owned, found)
    assert owned.described == found
    made.note_start(owned)
    made.learn(owned, replace(found, state=InstanceState.STOPPED))
    assert owned.described.state is InstanceState.PENDING, "a start that we know of is newer"


def test_an_instance_whose_agent_speaks_lives_whatever_a_listing_says() -> None:
    instance = Instance("i-1", InstanceState.TERMINATED, "t", "z", "spot", "amd64", "", "", 0.0)
    owned = OwnedInstance(instance)
    assert not owned.is_live
    owned.link.session = object()
    assert owned.is_live


async def test_a_table_that_is_closed_lists_nothing_more() -> None:
    """A sweep may come while the pods' room is closed already."""
    cloud = SimulatedCloud(SimulationConfig(), "test")
    made = InstanceTable(cloud, InstanceMetrics(CollectorRegistry()), Meter(lambda _: 1.0), lambda owned, notice: None)
    await made.refresh()
    await made.close()
    with pytest.raises(CloudError, match="it stops"):
        await made.refresh()
    assert not [task for task in asyncio.all_tasks() if "listing" in task.get_name()]


async def test_one_that_is_missing_is_in_doubt_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its agent may speak for it for ever: what others wait for is another one."""
    monkeypatch.setattr(table, "NEW_S", 0.0)
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 0.01)
    _, made, owned = await make_table(SimulationConfig())
    made.take([])
    assert made.doubted == 1
    await asyncio.sleep(0.02)
    for _ in range(3):
        made.take([])
        assert made.is_missing(owned.instance_id) and made.doubted == 0
    made.take([owned.described])
    made.take([])
    assert made.doubted == 1 and not made.is_missing(owned.instance_id)
