"""Which instances may still be identified by their boot secret, and which by their certificate only."""

from __future__ import annotations

import pytest

from tests.unit.pods.rig import World
from vk_provider.cloud.base import Instance


@pytest.fixture
def dialed(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """(instance ID, fresh) of each session that was asked for."""
    asked: list[tuple[str, bool]] = []
    original = world.connector.open_session

    async def open_session(instance: Instance, *, fresh: bool = True) -> object:
        asked.append((instance.instance_id, fresh))
        return await original(instance, fresh=fresh)

    monkeypatch.setattr(world.connector, "open_session", open_session)
    return asked


async def test_a_crash_between_launch_and_certificate_leaves_the_way_by_the_boot_secret(
    world: World, dialed: list[tuple[str, bool]]
) -> None:
    world.connector.unreachable.add("*")
    pod = world.api.add(world.pod())
    await world.until(lambda: dialed)
    await world.crash()
    dialed.clear()
    await world.start()
    await world.until(lambda: dialed)
    world.connector.unreachable.clear()
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    (instance,) = world.live_of(pod)
    assert set(dialed) == {(instance.instance_id, True)}


async def test_after_its_first_session_and_after_its_pods_start_only_the_certificate_counts(
    world: World, dialed: list[tuple[str, bool]]
) -> None:
    pod = await world.running()
    (instance,) = world.live_of(pod)
    assert dialed == [(instance.instance_id, True)]
    world.connector.cut(instance.instance_id)
    world.connector.unreachable.clear()
    await world.until(lambda: len(dialed) == 2)
    await world.crash()
    await world.start()
    await world.until(lambda: len(dialed) == 3)
    assert dialed[1:] == [(instance.instance_id, False)] * 2
