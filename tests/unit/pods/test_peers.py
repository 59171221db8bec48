"""What agents tell of their blobs, and when a pod's instance can be a peer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vk_provider.eventreasons import AGENT_PROTOCOL_ERROR
from vk_provider.pods.record import PodRecord
from vk_provider.wire.blobs import PEERS_FEATURE, BlobsMessage

from .rig import World, tell_after_greeting

DIGEST = "sha256:" + "1" * 64


class Peers:
    """PodPeers that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def greet(self, record: PodRecord) -> None:
        assert record.session is not None and record.instance is not None
        self.heard.append(f"greet {record.name}")

    def receive(self, record: PodRecord, message: BlobsMessage) -> None:
        self.heard.append(f"blobs {record.name} {len(message['wanted'])}")

    def leave(self, record: PodRecord) -> None:
        self.heard.append(f"leave {record.name}")


@pytest.fixture
async def peers() -> Peers:
    return Peers()


@pytest.fixture
async def world(tmp_path: Path, peers: Peers) -> AsyncIterator[World]:
    made = World(tmp_path / "logs")
    made.peers = peers
    await made.start()
    yield made
    await made.stop()


def tell(monkeypatch: pytest.MonkeyPatch, uid: str, features: list[str]) -> None:
    """Let agents tell a blob right after their greeting."""
    blobs = {"wanted": [DIGEST], "fetching": [], "held": [], "failed": [], "peerBytes": 0, "registryBytes": 0}
    tell_after_greeting(monkeypatch, features, {"type": "blobs", "podUID": uid, **blobs})


async def test_an_agent_that_can_is_greeted_before_it_is_heard_and_left_at_its_end(
    world: World, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = world.pod()
    name = pod["metadata"]["name"]
    tell(monkeypatch, pod["metadata"]["uid"], [PEERS_FEATURE])
    world.api.add(pod)
    await world.until(lambda: len(peers.heard) >= 2)
    assert peers.heard[:2] == [f"greet {name}", f"blobs {name} 1"]
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    world.api.mark_deleting(pod)
    await world.until(lambda: f"leave {name}" in peers.heard)


async def test_an_agent_that_has_not_named_the_feature_breaks_the_protocol_with_it(
    world: World, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = world.pod()
    tell(monkeypatch, pod["metadata"]["uid"], [])
    world.api.add(pod)
    await world.until(lambda: AGENT_PROTOCOL_ERROR in world.recorder.reasons())
    assert not any(each.startswith(("greet", "blobs")) for each in peers.heard)
