"""The provider's part: who is told of whose blobs. A real registry that demands a password; sessions are lists."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.password_registry import Image, PasswordRegistry, make_image, make_layer
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json
from vk_provider.peering.coordinator import PeerCoordinator, PeerLimits
from vk_provider.peering.metrics import PeerMetrics
from vk_provider.pods.record import PodRecord
from vk_provider.preparing.authority import PullAuthority
from vk_provider.preparing.contents import ImageContents
from vk_provider.registry.client import RegistryClient
from vk_provider.wire.blobs import BlobFailure, BlobsMessage, compute_grant

IMAGE: Image = make_image([make_layer({"a": b"1"}), make_layer({"b": b"2"})])
BLOBS = [digest for digest in IMAGE.parts if digest != IMAGE.digest]


class Session:
    def __init__(self) -> None:
        self.sent: list[Json] = []

    def put(self, slot: Any, message: Json) -> None:
        self.sent.append(message)


class World:
    def __init__(self, registry: PasswordRegistry) -> None:
        self.registry = registry
        self.client = RegistryClient({registry.host: {"plain_http": True}})
        self.authority = PullAuthority(self.client)
        self.metrics = CollectorRegistry()
        self.secrets: dict[str, Json] = {}
        self.coordinator = PeerCoordinator(
            PeerLimits(2), ImageContents(self.authority), self, PeerMetrics(self.metrics)
        )

    async def read_pull_secrets(self, pod: Json) -> Mapping[str, Json | None]:
        return {each["name"]: self.secrets.get(each["name"]) for each in pod["spec"].get("imagePullSecrets") or ()}

    def protect(self) -> None:
        self.registry.users = {"me": "right"}
        auth = base64.b64encode(b"me:right").decode()
        text = json.dumps({"auths": {self.registry.host: {"auth": auth}}})
        self.secrets["right"] = {"data": {".dockerconfigjson": base64.b64encode(text.encode()).decode()}}

    def pod(self, name: str, secret: str = "", image: str = "team/app:1", zone: str = "a") -> PodRecord:
        spec: Json = {"containers": [{"name": "c", "image": f"{self.registry.host}/{image}"}]}
        if secret:
            spec["imagePullSecrets"] = [{"name": secret}]
        record = PodRecord(name, "n", {"metadata": {"name": name, "namespace": "d", "uid": name}, "spec": spec})
        state = InstanceState.RUNNING
        owned = OwnedInstance(
            Instance(f"i-{name}", state, "t", zone, "on-demand", "amd64", f"10.0.0.{len(name)}", "", 0.0)
        )
        session: Any = Session()
        owned.link.session = session
        record.assignment.take(owned)
        self.coordinator.greet(record)
        return record

    async def tell(self, record: PodRecord, **parts: Any) -> None:
        message: Any = {
            **BlobsMessage(
                type="blobs",
                podUID=record.uid,
                wanted=[],
                fetching=[],
                held=[],
                failed=[],
                peerBytes=0,
                registryBytes=0,
            ),
            **parts,
        }
        self.coordinator.receive(record, message)
        await asyncio.gather(*self.coordinator._tasks)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.get_sample_value(name, labels) or 0.0


def last(record: PodRecord) -> Json:
    session: Any = record.session
    message: Json = session.sent[-1]
    return message


def kinds(record: PodRecord) -> list[str]:
    return [answer["kind"] for answer in last(record)["answers"]]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    registry = PasswordRegistry()
    await registry.start()
    registry.push("team/app", "1", IMAGE)
    made = World(registry)
    yield made
    await made.coordinator.close()
    await made.authority.close()
    await made.client.close()
    await registry.stop()


async def test_a_holder_is_named_with_a_grant_for_who_asks(world: World) -> None:
    one, two = world.pod("one"), world.pod("two2")
    key = last(one)["key"]
    await world.tell(one, wanted=BLOBS[:1])
    assert kinds(one) == ["registry"]
    await world.tell(two, wanted=BLOBS[:1])
    assert last(two)["answers"][0] | {"instance": "i-one"} == last(two)["answers"][0]
    assert kinds(two) == ["wait"]
    await world.tell(one, held=BLOBS[:1])
    answer = last(two)["answers"][0]
    assert answer["source"] == {
        "instance": "i-one",
        "address": "10.0.0.3",
        "port": 10251,
        "grant": compute_grant(key, "i-two2", BLOBS[0]),
    }
    assert answer["size"] == len(IMAGE.parts[BLOBS[0]][1])
    assert last(two)["key"] != key, "each agent has a key of its own"


async def test_manifests_are_asked_for_once_for_all_pods(world: World) -> None:
    pods = [world.pod(f"p{number}") for number in range(5)]
    await asyncio.gather(*(world.tell(pod, wanted=BLOBS[:1]) for pod in pods))
    assert world.registry.requests["GET manifests"] == 1
    assert world.registry.requests["HEAD manifests"] == 1


async def test_a_pod_without_the_password_is_sent_to_the_registry(world: World) -> None:
    world.protect()
    one, two = world.pod("one", "right"), world.pod("two")
    await world.tell(one, wanted=BLOBS[:1])
    await world.tell(one, held=BLOBS)
    await world.tell(two, wanted=BLOBS)
    assert kinds(two) == ["registry"] * len(BLOBS)
    assert world.count("vk_image_peer_proofs_total", result="denied") == 1


async def test_a_manifest_of_ones_own_that_names_anothers_blob_opens_nothing(world: World) -> None:
    """A registry does not prove that it has the blobs that its manifests name."""
    world.registry.push("attacker/app", "1", IMAGE)
    one, thief = world.pod("one"), world.pod("thief", image="attacker/app:1")
    await world.tell(one, wanted=BLOBS[:1])
    await world.tell(one, held=BLOBS)
    await world.tell(thief, wanted=BLOBS[:1])
    assert kinds(thief) == ["registry"]


async def test_digests_that_no_image_of_the_pod_has_are_the_registrys(world: World) -> None:
    one = world.pod("one")
    await world.tell(one, wanted=["sha256:" + "9" * 64, BLOBS[0]])
    assert kinds(one) == ["registry", "registry"]
    assert world.coordinator._swarm.size[1] == 1


async def test_what_an_agent_holds_of_other_images_is_not_offered(world: World) -> None:
    one, two = world.pod("one"), world.pod("two")
    await world.tell(one, held=BLOBS)  # has proved nothing
    await world.tell(two, wanted=BLOBS[:1])
    assert kinds(two) == ["registry"]


async def test_zones_share_nothing(world: World) -> None:
    one, two = world.pod("one"), world.pod("two", zone="b")
    await world.tell(one, wanted=BLOBS[:1])
    await world.tell(one, held=BLOBS)
    await world.tell(two, wanted=BLOBS[:1])
    assert kinds(two) == ["registry"]


async def test_a_session_that_ends_takes_its_lease_and_its_blobs_with_it(world: World) -> None:
    one, two = world.pod("one"), world.pod("two")
    await world.tell(one, wanted=BLOBS[:1])
    await world.tell(two, wanted=BLOBS[:1])
    world.coordinator.leave(one)
    assert kinds(two) == ["registry"]
    world.coordinator.leave(two)
    assert world.coordinator._swarm.size == (0, 0, 0)


async def test_a_failure_is_one_attempt(world: World) -> None:
    one, two = world.pod("one"), world.pod("two")
    await world.tell(one, wanted=BLOBS[:1])
    await world.tell(one, held=BLOBS)
    await world.tell(two, wanted=BLOBS[:1])
    assert kinds(two) == ["peer"]
    failure = BlobFailure(digest=BLOBS[0], instance="i-one")
    await world.tell(two, fetching=BLOBS[:1], failed=[failure])
    assert world.coordinator._swarm.answers("i-two")
    assert world.count("vk_image_peer_failures_total") == 1


async def test_bytes_are_counted_as_far_as_they_can_be_true(world: World) -> None:
    one = world.pod("one")
    size = sum(len(IMAGE.parts[digest][1]) for digest in BLOBS)
    await world.tell(one, wanted=BLOBS[:1])
    await world.tell(one, peerBytes=10, registryBytes=5)
    await world.tell(one, peerBytes=4, registryBytes=1 << 62)
    assert world.count("vk_image_fetched_bytes_total", source="peers") == 10
    assert world.count("vk_image_fetched_bytes_total", source="registry") == 2 * size


async def test_a_message_of_an_instance_that_did_not_greet_is_ignored(world: World) -> None:
    one = world.pod("one")
    world.coordinator.leave(one)
    await world.tell(one, wanted=BLOBS[:1])
    assert world.coordinator._swarm.size == (0, 0, 0)


async def test_small_blobs_may_be_left_to_the_registry(world: World) -> None:
    world.coordinator._min_bytes = 1 << 20
    one = world.pod("one")
    await world.tell(one, wanted=BLOBS)
    assert kinds(one) == ["registry"] * len(BLOBS)
    assert world.coordinator._swarm.size[1] == 0
