"""The provider dies at each call that a launch and an end make of EC2: before it is sent, and after it was carried out.
The next one finds what there is: after two sweeps no instance runs that no pod owns, and each pod has exactly one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.aws.provider import AwsWorld
from tests.moto.booted import BootedAws
from tests.moto.plan import Plan
from tests.moto.server import Account, MotoServer
from tests.unit.pods.rig import OWNER
from tests.unit.pods.test_sweep import make_sweep
from vk_provider.cloud.aws import addresses
from vk_provider.cloud.aws.catalog.settings import CatalogSettings
from vk_provider.cloud.aws.client import AwsClient
from vk_provider.cloud.aws.operations import AnswerT, Operation
from vk_provider.cloud.base import Offering
from vk_provider.cloud.listing import list_owned
from vk_provider.errors import CloudError
from vk_provider.instances import filling, links, missing, pool, standby, table, tagging
from vk_provider.instances.instance import Rest
from vk_provider.settings import PoolSettings

LIMIT_S = 120.0
QUIET_S = 0.6
"""No call for so long: what was asked for is done."""
NEVER = 1 << 30
POOL = PoolSettings("pool", cpu="1", memory="512Mi", count=1, max=1, price_factor=50.0)
STOPPED_POOL = replace(POOL, state="stopped")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.1)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.05)
    monkeypatch.setattr(table, "FAST_S", 0.1)
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 0.3)
    monkeypatch.setattr(addresses, "GRACE_S", 1.0)
    monkeypatch.setattr(pool, "QUIET_S", 0.1)
    monkeypatch.setattr(filling, "SETTLE_S", 0.1)
    monkeypatch.setattr(standby, "LOOK_S", 0.1)
    monkeypatch.setattr(tagging, "DELAY_S", 0.1)


@pytest.fixture(autouse=True)
async def sdk(moto: MotoServer, account: Account, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The SDK's clients are made once: they take a third of a second, and know nothing of a provider."""
    shared = AwsClient(moto.settings(account))
    await shared.start()

    async def start(self: AwsClient) -> None:
        self._clients, self._home = dict(shared._clients), shared._home

    async def close(self: AwsClient) -> None:
        self._clients.clear()

    with monkeypatch.context() as patch:
        patch.setattr(AwsClient, "start", start)
        patch.setattr(AwsClient, "close", close)
        yield
    await shared.close()


class DoomedCalls:
    """The calls of one provider, which dies at call number `at`: before it, or `after` EC2 has carried it out."""

    def __init__(self, cloud: BootedAws, at: int, after: bool) -> None:
        self._original: Callable[..., Awaitable[Any]] = cloud._client.call
        self._at, self._after = at, after
        self.names: list[str] = []
        self.is_counting = False
        self.died = asyncio.Event()
        self.last_at = 0.0
        cloud._client.call = self._call

    async def _call(
        self, operation: Operation[AnswerT], parameters: Mapping[str, Any], offering: Offering | None = None
    ) -> AnswerT:
        dies = self.is_counting and len(self.names) == self._at
        if self.is_counting:
            self.names.append(operation.name)
        if self.died.is_set() or (dies and not self._after):
            await self._die()
        try:
            answer: AnswerT = await self._original(operation, parameters, offering)
        except CloudError:
            await self._note_end(dies)
            raise
        await self._note_end(dies)
        return answer

    async def _note_end(self, dies: bool) -> None:
        self.last_at = asyncio.get_running_loop().time()
        if dies or self.died.is_set():
            await self._die()

    async def _die(self) -> None:
        self.died.set()
        await asyncio.Event().wait()

    async def until_over(self, expected: tuple[str, ...]) -> None:
        """Died, or all that is expected was called, and then nothing more."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LIMIT_S):
            while not self.died.is_set() and (  # noqa: ASYNC110 - nothing announces it
                loop.time() - self.last_at < QUIET_S or not set(expected) <= set(self.names)
            ):
                await asyncio.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Scenario:
    """prepare: what is there before calls count; act: what they are made for. pods, idle: how many pods there are, and
    how many instances without one, in the end. calls: that must be among those that were made."""

    prepare: Callable[[AwsWorld], Awaitable[None]]
    act: Callable[[AwsWorld], None]
    pods: int
    calls: tuple[str, ...]
    pools: tuple[PoolSettings, ...] = ()
    idle: int = 0
    plan: Plan = Plan()
    one_offering: bool = False


async def nothing(world: AwsWorld) -> None:
    """No pod is there."""


async def two_running(world: AwsWorld) -> None:
    world.add_pods(2)
    await world.until_running(2, LIMIT_S)


async def pool_ready(world: AwsWorld) -> None:
    is_stopped = any(pool.state == "stopped" for pool in world.pools)
    await world.until(
        lambda: any(
            owned.rest is Rest.STOPPED if is_stopped else owned.said_uid == ""
            for owned in world.room.supply.unclaimed.values()
        ),
        LIMIT_S,
    )


async def pool_used(world: AwsWorld) -> None:
    await pool_ready(world)
    world.add_pods(1)
    await world.until_running(1, LIMIT_S)
    await pool_ready(world)


def create(count: int) -> Callable[[AwsWorld], None]:
    return lambda world: world.add_pods(count)


def delete_one(world: AwsWorld) -> None:
    world.api.mark_deleting(next(iter(world.api.pods.values())))


SCENARIOS = {
    "launch of one": Scenario(nothing, create(1), 1, ("CreateLaunchTemplate", "CreateFleet")),
    "launch of a group": Scenario(nothing, create(2), 2, ("CreateFleet", "CreateTags")),
    "launch of one offering, addresses afterwards": Scenario(
        nothing, create(2), 2, ("RunInstances", "AssignPrivateIpAddresses"), plan=Plan(in_call=()), one_offering=True
    ),
    "end": Scenario(two_running, delete_one, 1, ("TerminateInstances",)),
    "filling of a pool": Scenario(nothing, create(0), 0, ("CreateFleet",), (POOL,), idle=1),
    "hit of a pool": Scenario(pool_ready, create(1), 1, ("CreateFleet", "CreateTags"), (POOL,), idle=1),
    "stop of what a pool has": Scenario(
        nothing, create(0), 0, ("CreateFleet", "StopInstances"), (STOPPED_POOL,), idle=1
    ),
    "start of what a pool has": Scenario(
        pool_ready, create(1), 1, ("StartInstances", "CreateTags"), (STOPPED_POOL,), idle=1
    ),
    "end of what a pool gave": Scenario(pool_used, delete_one, 0, ("TerminateInstances",), (POOL,), idle=1),
}


@dataclass
class Site:
    """moto's server, its account, and where providers keep what they keep."""

    directory: Path
    moto: MotoServer
    account: Account
    number: int = 0

    @asynccontextmanager
    async def cloud(self, scenario: Scenario) -> AsyncIterator[BootedAws]:
        """The one of a new process."""
        more: dict[str, Any] = {}
        if scenario.one_offering:  # other zones are another catalog, which moto needs seconds for
            catalog = CatalogSettings(str(self.directory / "catalog"), price_api=False, spot_prices=False)
            more = {"instance_types": ("m7i.large",), "subnets": self.account.subnets[:1], "catalog": catalog}
        cloud = BootedAws(self.moto.settings(self.account, **more), OWNER)
        await cloud.start()
        try:
            yield cloud
        finally:
            await cloud.close()

    async def run(self, scenario: Scenario, at: int, after: bool) -> list[str]:
        """One life that ends at that call, and the next one; returns the names of the calls of the first."""
        self.number += 1
        self.moto.reset()
        self.account = self.moto.make_account()
        self.moto.plan(scenario.plan)
        async with self.cloud(scenario) as first:
            calls = DoomedCalls(first, at, after)
            world = AwsWorld(self.directory / str(self.number), first)
            world.pools = scenario.pools
            await world.start()
            await scenario.prepare(world)
            calls.is_counting = True
            scenario.act(world)
            calls.last_at = asyncio.get_running_loop().time()
            await calls.until_over(scenario.calls)
            calls.is_counting = False
            await world.crash()
        async with self.cloud(scenario) as second:
            world.cloud = world.connector._cloud = second
            second.on_gone, second.on_stopped = world.connector._on_gone, world.connector._on_stopped
            await world.start()
            try:
                await self._judge(world, scenario)
            finally:
                await world.stop()
        return calls.names

    async def _judge(self, world: AwsWorld, scenario: Scenario) -> None:
        async with asyncio.timeout(LIMIT_S):
            while len(world.api.pods) != scenario.pods:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
        await world.until_running(scenario.pods, LIMIT_S)
        if scenario.idle:
            await pool_ready(world)
        await world.until(lambda: not world.room.launches.is_busy and not world.room.filling.is_busy, LIMIT_S)
        owned = world.room.table.owned
        await world.until(lambda: all(each.rest or each.said_uid is not None for each in owned.values()), LIMIT_S)
        sweep = make_sweep(world)
        await sweep.sweep()
        await sweep.sweep()
        running = [each for each in await list_owned(world.cloud) if not each.state.is_terminating]
        served = self._find_served(world)
        assert set(served.values()) == {pod["metadata"]["uid"] for pod in world.api.pods.values()}
        assert max(Counter(served.values()).values(), default=1) == 1, "a pod has two instances"
        assert len(running) == scenario.pods + scenario.idle, "an instance runs that no pod owns"
        assert set(served) <= {each.instance_id for each in running}

    def _find_served(self, world: AwsWorld) -> dict[str, str]:
        """Instance -> pod, by the agents of those instances that run."""
        owned = world.room.table.owned
        agents = {name: agent for name, agent in world.connector._agents.items() if name in owned}
        return {name: agent.uid for name, agent in agents.items() if agent.uid}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_provider_that_dies_at_any_call_leaves_no_instance_behind(
    name: str, tmp_path: Path, moto: MotoServer, account: Account
) -> None:
    scenario, site = SCENARIOS[name], Site(tmp_path, moto, account)
    calls = await site.run(scenario, NEVER, False)
    assert set(scenario.calls) <= set(calls), calls
    for number, call in enumerate(calls):
        for after in (False, True):
            try:
                await site.run(scenario, number, after)
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(
                    f"killed {'after' if after else 'before'} call {number}, {call}: {error}"
                ) from error
