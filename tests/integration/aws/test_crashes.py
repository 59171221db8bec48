"""The provider dies at each call that a launch, an end, and an end by EC2 itself make: before it is sent, and after it
was carried out.
The next one finds what there is: after two sweeps no instance runs that no pod owns, and each pod has exactly one."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.integration.aws.provider import AwsWorld
from tests.moto.booted import BootedAws
from tests.moto.plan import Plan
from tests.moto.server import Account, MotoServer
from tests.unit.pods.rig import OWNER
from tests.unit.pods.test_sweep import make_sweep
from vk_provider.cloud.aws import addresses, notices
from vk_provider.cloud.aws.catalog.settings import CatalogSettings
from vk_provider.cloud.aws.client import AwsClient
from vk_provider.cloud.aws.operations import AnswerT, Operation
from vk_provider.cloud.base import Instance, Offering
from vk_provider.cloud.listing import list_owned
from vk_provider.errors import CloudError
from vk_provider.instances import ends, filling, links, missing, pool, standby, table, tagging
from vk_provider.instances.instance import Rest
from vk_provider.instances.interruptions import LEAD_S
from vk_provider.podmodel.phase import TERMINAL_PHASES
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
    monkeypatch.setattr(notices, "WAIT_S", 1)
    monkeypatch.setattr(ends, "RETRY_FIRST_S", 0.2)


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


class CrashWorld(AwsWorld):
    """A provider, and who may do something to its instances. queue_url: of the cloud's notices, "" without any."""

    def __init__(self, directory: Path, cloud: BootedAws, moto: MotoServer, queue_url: str) -> None:
        super().__init__(directory, cloud)
        self.moto, self._queue_url = moto, queue_url
        self.victim = ""
        self._following: asyncio.Task[None] | None = None

    async def start(self, *, adopt: bool = True) -> list[Instance]:
        surplus = await super().start(adopt=adopt)
        if self._queue_url:
            self._following = asyncio.create_task(self.room.run())
        return surplus

    async def _stop_stocking(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        await super()._stop_stocking()

    def announce(self, source: str, kind: str, **detail: Any) -> None:
        """What EventBridge puts into the queue."""
        body = json.dumps({"source": source, "detail-type": kind, "detail": detail})
        self.moto.client("sqs").send_message(QueueUrl=self._queue_url, MessageBody=body)

    def end_outside(self, state: str, reason: str) -> None:
        """What EC2, or somebody else, does to the victim."""
        self.moto.set_state(self.victim, state, reason)
        self.connector.cut(self.victim)

    def count_pods(self) -> tuple[int, int]:
        """Those that run, and those that have ended."""
        phases = [(pod.get("status") or {}).get("phase") for pod in self.api.pods.values()]
        return phases.count("Running"), sum(phase in TERMINAL_PHASES for phase in phases)


def nothing_happens(world: CrashWorld) -> None:
    """As the first provider has left it."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """prepare: what is there before calls count; act: what they are made for; later: what happens before the sweeps of
    the next provider. pods, idle: how many pods run, and how many instances there are without one, in the end; ended:
    how many pods have ended. calls: that must be among those that were made. more: settings."""

    prepare: Callable[[CrashWorld], Awaitable[None]]
    act: Callable[[CrashWorld], None]
    pods: int
    calls: tuple[str, ...]
    pools: tuple[PoolSettings, ...] = ()
    idle: int = 0
    plan: Plan = Plan()
    one_offering: bool = False
    ended: int = 0
    has_queue: bool = False
    later: Callable[[CrashWorld], None] = nothing_happens
    more: Mapping[str, Any] = field(default_factory=dict)


async def nothing(world: CrashWorld) -> None:
    """No pod is there."""


async def two_running(world: CrashWorld) -> None:
    world.add_pods(2)
    await world.until_running(2, LIMIT_S)
    (instance,) = world.live_of(next(iter(world.api.pods.values())))
    world.victim = instance.instance_id


async def two_of_which_one_is_protected(world: CrashWorld) -> None:
    await two_running(world)
    world.moto.plan(Plan(protected=(world.victim,)))


async def pool_ready(world: CrashWorld) -> None:
    is_stopped = any(pool.state == "stopped" for pool in world.pools)
    await world.until(
        lambda: any(
            owned.rest is Rest.STOPPED if is_stopped else owned.said_uid == ""
            for owned in world.room.supply.unclaimed.values()
        ),
        LIMIT_S,
    )


async def pool_used(world: CrashWorld) -> None:
    await pool_ready(world)
    world.add_pods(1)
    await world.until_running(1, LIMIT_S)
    await pool_ready(world)


def create(count: int) -> Callable[[CrashWorld], None]:
    return lambda world: world.add_pods(count)


def delete_one(world: CrashWorld) -> None:
    world.api.mark_deleting(next(iter(world.api.pods.values())))


def interrupt(world: CrashWorld) -> None:
    detail = {"instance-id": world.victim, "instance-action": "terminate"}
    world.announce("aws.ec2", "EC2 Spot Instance Interruption Warning", **detail)


def retire(world: CrashWorld) -> None:
    """So that its pod is stopped a second later."""
    detail: dict[str, Any] = {
        "service": "EC2",
        "eventTypeCategory": "scheduledChange",
        "eventTypeCode": "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED",
        "startTime": formatdate(time.time() + LEAD_S + 1.0, usegmt=True),
        "affectedEntities": [{"entityValue": world.victim}],
    }
    world.announce("aws.health", "AWS Health Event", **detail)


def is_retired(world: CrashWorld) -> None:
    """As announced: a provider that has heard of it and died has stopped nothing."""
    world.end_outside("terminated", "Server.ScheduledStop: retired")


def stop_outside(world: CrashWorld) -> None:
    world.end_outside("stopped", "Client.UserInitiatedShutdown: stopped")


def unprotect(world: CrashWorld) -> None:
    world.moto.plan()


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
    "launch of one offering, a prefix each": Scenario(
        nothing, create(2), 2, ("RunInstances",), one_offering=True, more={"second_address": "prefix"}
    ),
    "interruption of a spot instance": Scenario(
        two_running, interrupt, 1, ("DeleteMessageBatch", "TerminateInstances"), ended=1, has_queue=True
    ),
    "retirement of a machine": Scenario(
        two_running,
        retire,
        1,
        ("DeleteMessageBatch", "TerminateInstances"),
        ended=1,
        has_queue=True,
        later=is_retired,
    ),
    "stop from outside": Scenario(two_running, stop_outside, 1, ("TerminateInstances",), ended=1),
    "end of what is protected": Scenario(
        two_of_which_one_is_protected, delete_one, 1, ("TerminateInstances",), later=unprotect
    ),
}


@dataclass
class Site:
    """moto's server, its account, and where providers keep what they keep."""

    directory: Path
    moto: MotoServer
    account: Account
    number: int = 0

    @asynccontextmanager
    async def cloud(self, scenario: Scenario, queue_url: str) -> AsyncIterator[BootedAws]:
        """The one of a new process."""
        more: dict[str, Any] = {"notice_queue": queue_url, **scenario.more}
        if scenario.one_offering:  # other zones are another catalog, which moto needs seconds for
            catalog = CatalogSettings(str(self.directory / "catalog"), price_api=False, spot_prices=False)
            more |= {"instance_types": ("m7i.large",), "subnets": self.account.subnets[:1], "catalog": catalog}
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
        queue_url = self._make_queue() if scenario.has_queue else ""
        async with self.cloud(scenario, queue_url) as first:
            calls = DoomedCalls(first, at, after)
            world = CrashWorld(self.directory / str(self.number), first, self.moto, queue_url)
            world.pools = scenario.pools
            await world.start()
            await scenario.prepare(world)
            calls.is_counting = True
            scenario.act(world)
            calls.last_at = asyncio.get_running_loop().time()
            await calls.until_over(scenario.calls)
            calls.is_counting = False
            await world.crash()
        async with self.cloud(scenario, queue_url) as second:
            world.cloud = world.connector._cloud = second
            second.on_gone, second.on_stopped = world.connector._on_gone, world.connector._on_stopped
            await world.start()
            try:
                await self._judge(world, scenario)
            finally:
                await world.stop()
        return calls.names

    def _make_queue(self) -> str:
        """What was given and not deleted is given again after a second."""
        made = self.moto.client("sqs").create_queue(QueueName="notices", Attributes={"VisibilityTimeout": "1"})
        url: str = made["QueueUrl"]
        return url

    async def _judge(self, world: CrashWorld, scenario: Scenario) -> None:
        expected = scenario.pods + scenario.ended
        await world.until(lambda: len(world.api.pods) == expected, LIMIT_S)
        scenario.later(world)
        await world.until(lambda: world.count_pods() == (scenario.pods, scenario.ended), LIMIT_S)
        await world.until(lambda: not world.room.ends.pending, LIMIT_S)
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
        alive = [pod for pod in world.api.pods.values() if pod["status"]["phase"] == "Running"]
        assert set(served.values()) == {pod["metadata"]["uid"] for pod in alive}
        assert max(Counter(served.values()).values(), default=1) == 1, "a pod has two instances"
        assert len(running) == scenario.pods + scenario.idle, "an instance runs that no pod owns"
        assert set(served) <= {each.instance_id for each in running}

    def _find_served(self, world: CrashWorld) -> dict[str, str]:
        """Instance -> pod, by the agents of those instances that run."""
        owned = world.room.table.owned
        agents = {name: agent for name, agent in world.connector._agents.items() if name in owned}
        return {name: agent.uid for name, agent in agents.items() if agent.uid}


LONG = ("retirement of a machine", "stop from outside", "end of what is protected")
"""`make simulate CRASHES=all` runs them: EC2's own pace makes them long, and the simulation has them at each step."""
BY_HAND = () if os.environ.get("CRASHES") == "all" else LONG


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in BY_HAND])
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
