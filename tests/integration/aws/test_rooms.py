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
from vk_provider.instances import ends, table

LIMIT_S = 120.0
EXPIRED = Rule("*", "ExpiredToken", "The security token included in the request is expired")
SUSPENDED = (
    Rule("*", "OptInRequired", "You are not subscribed to this service", status=401),
    Rule("*", "Blocked", "This account is currently blocked by AWS", status=400),
)


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


def counted(world: AwsWorld, name: str, **labels: str) -> float:
    """A metric's value; 0 where there is none yet."""
    return world.registry.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("rule", [EXPIRED, *SUSPENDED], ids=lambda rule: rule.code)
async def test_pods_wait_while_the_account_answers_nothing_and_run_when_it_does(
    tmp_path: Path, moto: MotoServer, account: Account, rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials that expire, or an account that is suspended, in the middle."""
    monkeypatch.setattr(ends, "STUCK_AFTER_S", 0.5)
    monkeypatch.setattr(ends, "RETRY_FIRST_S", 0.3)
    async with provider(tmp_path, moto, account) as world:
        first, second = (world.api.add(world.pod()) for _ in range(2))
        await world.until_running(2, LIMIT_S)
        moto.plan(Plan(rules=(rule,)))
        world.add_pods(3)
        await world.until(lambda: "FailedLaunch" in world.recorder.reasons(), LIMIT_S)
        told = [text for reason, text in world.recorder.events if reason == "FailedLaunch"]
        assert any(rule.code in text and "will try again" in text for text in told)
        assert counted(world, "vk_instance_launches_total", result="failed") >= 1
        assert counted(world, "vk_instance_launches_total", result="ok") == 2
        world.api.mark_deleting(first)
        await world.until(lambda: len(world.api.pods) == 4, LIMIT_S)
        await world.until(lambda: counted(world, "vk_instance_terminations_total", why="failed") == 1, LIMIT_S)
        await world.until(lambda: counted(world, "vk_instances_not_terminated") == 1, LIMIT_S)
        assert any("still costs money" in text and rule.code in text for _, text in world.recorder.events)
        phases = [(pod.get("status") or {}).get("phase") for pod in world.api.pods.values()]
        assert sorted(phases) == ["Pending"] * 3 + ["Running"], "none is failed, and who runs runs on"
        assert world.api.status(second)["phase"] == "Running"
        calls = moto.calls()["TerminateInstances"]
        assert calls <= 10, "a batch is not taken apart for what no ID is to blame for"
        moto.plan()
        await world.until_running(4, LIMIT_S)
        await until_states(world, lambda found: sum(not each.is_terminating for each in found.values()) == 4)
        await world.until(lambda: not world.room.ends.pending, LIMIT_S)
        assert counted(world, "vk_instances_not_terminated") == 0
        assert counted(world, "vk_instance_launches_total", result="ok") == 5


async def test_an_instance_that_may_not_be_terminated_holds_no_pod_and_is_ended_when_it_may(
    tmp_path: Path, moto: MotoServer, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "STUCK_AFTER_S", 0.5)
    monkeypatch.setattr(ends, "RETRY_FIRST_S", 0.3)
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
        await world.until(lambda: counted(world, "vk_instance_terminations_total", why="failed") == 1, LIMIT_S)
        await world.until(lambda: counted(world, "vk_instances_not_terminated") == 1, LIMIT_S)
        (text,) = [text for _, text in world.recorder.events if "still costs money" in text]
        assert protected.instance_id in text and "OperationNotPermitted" in text
        moto.plan()
        await until_states(world, lambda found: all(each.is_terminating for each in found.values()))
        await world.until(lambda: counted(world, "vk_instances_not_terminated") == 0, LIMIT_S)


async def test_an_instance_that_was_stopped_from_outside_fails_its_pod_and_is_terminated(
    tmp_path: Path, moto: MotoServer, account: Account
) -> None:
    async with provider(tmp_path, moto, account) as world:
        pod = world.api.add(world.pod(restartPolicy="Never"))
        await world.until_running(1, LIMIT_S)
        (instance,) = world.live_of(pod)
        before = terminations(world)
        moto.set_state(instance.instance_id, "stopped", "Client.UserInitiatedShutdown: stopped")
        world.connector.cut(instance.instance_id)
        await world.until(lambda: world.api.status(pod).get("phase") == "Failed", LIMIT_S)
        assert any(instance.instance_id in text for _, text in world.recorder.events if "stopped" in text)
        await until_states(world, lambda found: all(each.is_terminating for each in found.values()))
        await world.until(lambda: terminations(world) == before + 1, LIMIT_S)
        assert counted(world, "vk_instance_terminations_total", why="failed") == 0
        assert counted(world, "vk_instances", stage="assigned") == 0


def terminations(world: AwsWorld) -> float:
    """Of all reasons."""
    return sum(
        sample.value
        for metric in world.registry.collect()
        for sample in metric.samples
        if sample.name == "vk_instance_terminations_total"
    )
