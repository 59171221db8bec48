"""What an answer that does not name an instance means."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from vk_provider.cloud.base import InstancePage
from vk_provider.instances import links, missing, table
from vk_provider.instances.missing import MASS_CONFIRM_S, MISSING_CONFIRM_S, MissingRule

from .rig import World
from .test_sweep import launch, make_sweep

SOON, LATER = MISSING_CONFIRM_S - 1, MISSING_CONFIRM_S


def test_one_answer_is_none_and_two_at_once_are_none_either() -> None:
    rule = MissingRule()
    assert not rule.judge(["a"], [], 10, 0.0).missing
    assert not rule.judge(["a"], [], 10, SOON).missing
    assert rule.judge(["a"], [], 10, LATER).missing == {"a"}


def test_an_answer_in_between_that_names_it_counts_anew() -> None:
    rule = MissingRule()
    rule.judge(["a"], [], 10, 0.0)
    rule.judge([], ["a"], 10, 20.0)
    assert not rule.judge(["a"], [], 10, 40.0).missing
    assert rule.judge(["a"], [], 10, 70.0).missing == {"a"}


@pytest.mark.parametrize(("count", "known", "mass"), [(3, 5, False), (4, 5, True), (10, 100, False), (11, 100, True)])
def test_many_at_once_are_not_believed_before_all_answers_of_a_long_time_agreed(
    count: int, known: int, mass: bool
) -> None:
    rule, names = MissingRule(), [f"i-{number}" for number in range(count)]
    rule.judge(names, [], known, 0.0)
    verdict = rule.judge(names, [], known, LATER)
    assert (verdict.mass, len(verdict.missing), len(verdict.doubted)) == (mass, 0 if mass else count, count * mass)
    if mass:
        assert rule.judge(names, [], known, MASS_CONFIRM_S).missing == set(names)


def test_many_are_many_too_when_each_is_asked_for_alone() -> None:
    rule, names = MissingRule(), [f"i-{number}" for number in range(20)]
    for name in names:
        rule.judge([name], [], 20, 0.0)
    assert not any(rule.judge([name], [], 20, LATER).missing for name in names)


def test_those_that_nobody_asks_for_any_more_make_no_crowd() -> None:
    rule = MissingRule()
    rule.judge([f"i-{number}" for number in range(20)], [], 20, 0.0)
    rule.judge(["a"], [], 20, MASS_CONFIRM_S + 1)
    assert len(rule) == 1
    assert rule.judge(["a"], [], 20, MASS_CONFIRM_S + 1 + LATER).missing == {"a"}


def test_an_answer_is_as_old_as_its_question() -> None:
    """A listing whose pages hang may have looked for a name just after the one before did."""
    rule = MissingRule()
    rule.judge(["a"], [], 1, 0.0)
    assert not rule.judge(["a"], [], 1, LATER, began=1.0).missing
    assert rule.judge(["a"], [], 1, 2 * LATER, began=LATER).missing == {"a"}


def test_one_is_not_missing_by_an_answer_that_lacks_many_others() -> None:
    rule = MissingRule()
    rule.judge(["a"], [], 5, 0.0)
    assert not rule.judge(["a"], [], 5, LATER, others=4).missing
    assert rule.judge(["a"], [], 5, LATER + 1.0).missing == {"a"}


def test_those_whose_end_an_answer_explains_are_no_crowd_unless_it_lacks_many_others() -> None:
    names = ["a", "b", "c", "d", "e"]
    rule = MissingRule()
    rule.judge(names, [], 5, 0.0)
    assert not rule.judge(names, [], 5, LATER, explained=names, others=4).missing
    verdict = rule.judge(names, [], 5, LATER + 1.0, explained=names[1:])
    assert verdict.missing == {*names} and not verdict.mass


def test_names_that_nobody_asks_for_any_more_are_no_crowd_once_that_is_said() -> None:
    rule = MissingRule()
    rule.judge(["a", "b", "c", "d", "e"], [], 5, 0.0)
    rule.retain({"a"})
    assert rule.judge(["a"], [], 5, LATER).missing == {"a"}


def test_after_a_failure_everything_counts_anew() -> None:
    rule = MissingRule()
    rule.judge(["a"], [], 1, 0.0)
    rule.reset()
    assert not rule.judge(["a"], [], 1, LATER).missing


# --- where it decides ----------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(now=7200.0)
    made.monotonic, made.time = lambda: made.now, time.time
    monkeypatch.setattr(table, "time", made)
    monkeypatch.setattr(table, "FAST_S", 0.0)
    monkeypatch.setattr(links, "FATE_INTERVAL_S", 0.02)
    monkeypatch.setattr(table, "FAST_S", 0.01)
    monkeypatch.setattr(table, "NEW_S", 0.0)
    monkeypatch.setattr(links, "DIAL_MAX_S", 0.02)
    return made


def forget(world: World, monkeypatch: Any) -> list[int]:
    """The cloud names nobody any more; returns how often it was asked for how many."""
    asked: list[int] = []

    async def nobody(page: str = "") -> InstancePage:
        asked.append(len(world.room.table.owned))
        return InstancePage(())

    monkeypatch.setattr(world.cloud, "list_page", nobody)
    return asked


async def test_an_answer_that_lacks_an_instance_once_fails_no_pod_and_ends_no_instance(
    world: World, clock: SimpleNamespace, monkeypatch: Any
) -> None:
    pod = await world.running()
    asked = forget(world, monkeypatch)
    world.connector.cut(world.live_of(pod)[0].instance_id)
    await world.until(lambda: len(asked) >= 3)
    assert world.api.status(pod)["phase"] == "Running" and world.live_of(pod)
    clock.now += MISSING_CONFIRM_S
    await world.until(lambda: world.api.status(pod)["phase"] == "Failed")
    assert "does not know instance" in world.api.status(pod)["message"]


async def test_when_many_vanish_at_once_nothing_is_concluded_and_the_right_answer_helps(
    world: World, clock: SimpleNamespace, monkeypatch: Any
) -> None:
    pods = [await world.running() for _ in range(5)]
    asked = forget(world, monkeypatch)
    for pod in pods:
        world.connector.cut(world.live_of(pod)[0].instance_id)
    await world.until(lambda: sum(asked) >= 10)
    clock.now += 5 * MISSING_CONFIRM_S
    before = len(asked)
    await world.until(lambda: len(asked) >= before + 5)
    assert {world.api.status(pod)["phase"] for pod in pods} == {"Running"} and len(world.live()) == 5
    monkeypatch.undo()
    world.connector.unreachable.clear()
    await world.until(lambda: all(record.session is not None for record in world.controller.records.values()))
    assert {world.api.status(pod)["phase"] for pod in pods} == {"Running"}


async def test_a_restart_into_an_empty_listing_fails_no_pods_and_finds_them_later(
    world: World, monkeypatch: Any
) -> None:
    monkeypatch.setattr(table, "FAST_S", 0.0)
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 0.02)
    pods = [await world.running() for _ in range(5)]
    await world.crash()
    calls = 0
    visible = world.cloud.list_page

    async def empty(page: str = "") -> InstancePage:
        nonlocal calls
        calls += 1
        return InstancePage(())

    monkeypatch.setattr(world.cloud, "list_page", empty)
    await world.start()
    await world.until(lambda: calls >= 5)
    assert calls < 50, "one listing for all pods"
    assert {world.api.status(pod)["phase"] for pod in pods} == {"Running"} and len(world.live()) == 5
    monkeypatch.setattr(world.cloud, "list_page", visible)
    await world.until(lambda: all(record.report.from_agent for record in world.controller.records.values()))
    assert len(world.live()) == 5


async def test_instances_that_the_cloud_says_are_terminated_are_no_crowd_of_missing_ones(
    world: World, monkeypatch: Any
) -> None:
    monkeypatch.setattr(table, "FAST_S", 0.0)
    monkeypatch.setattr(missing, "MISSING_CONFIRM_S", 0.02)
    pods = [await world.running() for _ in range(5)]
    await world.crash()
    for instance in world.live():
        world.cloud.vanish(instance.instance_id)
    await world.start()
    await world.until(lambda: {world.api.status(pod)["phase"] for pod in pods} == {"Failed"})
    assert "reclaimed" in world.api.status(pods[0])["message"]


async def test_a_sweep_that_finds_nearly_all_pods_gone_waits_for_many_to_agree(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "FAST_S", 0.0)
    for number in range(6):
        await launch(world, f"gone{number}", "p", f"t{number}")
    sweep = make_sweep(world)
    for _ in range(10):
        assert await sweep.sweep() == []
    assert len(await sweep.sweep()) == 6


async def test_an_instance_that_cannot_be_judged_does_not_end_the_sweep(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    pod = world.pod()
    world.api.pods[("default", pod["metadata"]["name"])] = {"metadata": {}}
    broken = await launch(world, pod["metadata"]["uid"], pod["metadata"]["name"], "broken")
    orphan = await launch(world, "gone", "gone", "orphan")
    sweep = make_sweep(world)
    await sweep.sweep()
    assert await sweep.sweep() == [orphan.instance_id]
    assert broken.instance_id in caplog.text
    await asyncio.sleep(0)
