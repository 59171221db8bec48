"""What the rooms for pods and instances make of EC2's troubles: nothing is lost, nothing runs on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.integration.aws.provider import AwsWorld, provider
from tests.moto.plan import Plan, Rule
from tests.moto.server import Account, MotoServer
from vk_provider.cloud.base import InstanceState
from vk_provider.cloud.listing import list_owned
from vk_provider.instances import table

LIMIT_S = 120.0
EXPIRED = Rule("*", "ExpiredToken", "The security token included in the request is expired")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FAST_S", 0.2)


async def states(world: AwsWorld) -> dict[str, InstanceState]:
    return {each.instance_id: each.state for each in await list_owned(world.cloud)}


async def until_states(world: AwsWorld, wanted: Any) -> None:
    """Listings until they are as `wanted` says."""
    found: dict[str, InstanceState] = {}

    async def look() -> bool:
        found.clear()
        found.update(await states(world))
        return bool(wanted(found))

    async with asyncio.timeout(LIMIT_S):
        while not await look():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.2)


async def test_pods_that_come_while_the_credentials_have_expired_wait_and_run_when_there_are_new_ones(
    tmp_path: Path, moto: MotoServer, account: Account
) -> None:
    async with provider(tmp_path, moto, account) as world:
        first = world.api.add(world.pod())
        await world.until_running(1, LIMIT_S)
        moto.plan(Plan(rules=(EXPIRED,)))
        world.add_pods(3)
        await world.until(lambda: "FailedLaunch" in world.recorder.reasons(), LIMIT_S)
        assert any("ExpiredToken" in message for _, message in world.recorder.events)
        world.api.mark_deleting(first)
        await world.until(lambda: len(world.api.pods) == 3, LIMIT_S)
        assert all((pod.get("status") or {}).get("phase") != "Failed" for pod in world.api.pods.values())
        calls = moto.calls()["TerminateInstances"]
        assert calls <= 10, "a batch is not taken apart for what no ID is to blame for"
        moto.plan()
        await world.until_running(3, LIMIT_S)
        await until_states(world, lambda found: sum(not each.is_terminating for each in found.values()) == 3)


async def test_an_instance_that_may_not_be_terminated_holds_no_pod_and_is_ended_when_it_may(
    tmp_path: Path, moto: MotoServer, account: Account
) -> None:
    async with provider(tmp_path, moto, account) as world:
        pod = world.api.add(world.pod())
        other = world.api.add(world.pod())
        await world.until_running(2, LIMIT_S)
        (protected,) = world.live_of(pod)
        moto.plan(Plan(protected=(protected.instance_id,)))
        for each in (pod, other):
            world.api.mark_deleting(each)
        await world.until(lambda: not world.api.pods, LIMIT_S)
        await until_states(world, lambda found: sum(not each.is_terminating for each in found.values()) == 1)
        assert protected.instance_id in world.room.ends.pending
        moto.plan()
        await until_states(world, lambda found: all(each.is_terminating for each in found.values()))


async def test_an_instance_that_was_stopped_from_outside_fails_its_pod_and_is_terminated(
    tmp_path: Path, moto: MotoServer, account: Account
) -> None:
    async with provider(tmp_path, moto, account) as world:
        pod = world.api.add(world.pod(restartPolicy="Never"))
        await world.until_running(1, LIMIT_S)
        (instance,) = world.live_of(pod)
        moto.set_state(instance.instance_id, "stopped", "Client.UserInitiatedShutdown: stopped")
        world.connector.cut(instance.instance_id)
        await world.until(lambda: world.api.status(pod).get("phase") == "Failed", LIMIT_S)
        await until_states(world, lambda found: all(each.is_terminating for each in found.values()))
