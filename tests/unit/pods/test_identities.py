"""What agents tell of the tokens that their containers show, and whom it reaches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vk_provider.eventreasons import AGENT_PROTOCOL_ERROR
from vk_provider.pods.record import PodRecord
from vk_provider.wire.identity import IDENTITY_FEATURE, IdentityMessage

from .rig import World, tell_after_greeting


class Identities:
    """PodIdentities that keeps what it hears."""

    is_on = True

    def __init__(self) -> None:
        self.heard: list[str] = []

    def receive(self, record: PodRecord, message: IdentityMessage) -> None:
        self.heard.append(f"{record.name} {message['tokens']}")

    def leave(self, record: PodRecord) -> None:
        self.heard.append(f"leave {record.name}")


@pytest.fixture
async def identities() -> Identities:
    return Identities()


@pytest.fixture
async def world(tmp_path: Path, identities: Identities) -> AsyncIterator[World]:
    made = World(tmp_path / "logs")
    made.identities = identities
    await made.start()
    yield made
    await made.stop()


def tell(monkeypatch: pytest.MonkeyPatch, uid: str, features: list[str]) -> None:
    """Let agents tell a token right after their greeting."""
    tell_after_greeting(monkeypatch, features, {"type": "identity", "podUID": uid, "tokens": ["a.b.c"]})


async def test_tokens_reach_whoever_answers_them_until_the_pod_is_gone(
    world: World, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = world.pod()
    name = pod["metadata"]["name"]
    tell(monkeypatch, pod["metadata"]["uid"], [IDENTITY_FEATURE])
    world.api.add(pod)
    await world.until(lambda: identities.heard == [f"{name} ['a.b.c']"])
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    world.api.mark_deleting(pod)
    await world.until(lambda: f"leave {name}" in identities.heard)


async def test_tokens_for_another_pod_than_the_instances_go_nowhere(
    world: World, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = world.pod()
    tell(monkeypatch, "somebody-else", [IDENTITY_FEATURE])
    world.api.add(pod)
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert not identities.heard


async def test_an_agent_that_has_not_named_the_feature_breaks_the_protocol_with_it(
    world: World, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = world.pod()
    tell(monkeypatch, pod["metadata"]["uid"], [])
    world.api.add(pod)
    await world.until(lambda: AGENT_PROTOCOL_ERROR in world.recorder.reasons())
    assert not identities.heard
