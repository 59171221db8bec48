"""What is asked about a pod before its instance is chosen: its RuntimeClass, and the architectures of its images."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.podmodel.images import RegistryCredential
from vk_provider.preparing import architectures, facts
from vk_provider.preparing.architectures import TAG_TTL_S, ImageArchitectures
from vk_provider.preparing.credentials import MAX_CREDENTIALS, MAX_SECRET_CHARACTERS, find_credentials
from vk_provider.preparing.facts import PodFactFinder
from vk_provider.registry.client import RegistryError

BOTH = frozenset({"amd64", "arm64"})
APP, TOOL = "docker.io/library/app:1", "docker.io/library/tool:1"


class Registry:
    def __init__(self) -> None:
        self.images: dict[str, frozenset[str]] = {APP: BOTH | {"s390x"}, TOOL: frozenset({"arm64"})}
        self.asked: list[str] = []
        self.hangs = False

    async def fetch_architectures(self, reference: str, credential: RegistryCredential | None) -> frozenset[str]:
        self.asked.append(reference)
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if reference not in self.images:
            raise RegistryError("no")
        return self.images[reference]


class Objects:
    def __init__(self) -> None:
        self.classes: dict[str, Json] = {}
        self.read: set[str] = set()
        self.failures = 0

    def peek_runtime_class(self, pod: Json) -> tuple[bool, Json | None]:
        name = pod["spec"].get("runtimeClassName")
        return (True, None) if not name else (name in self.read, self.classes.get(name))

    async def read_runtime_class(self, pod: Json) -> Json | None:
        if self.failures:
            self.failures -= 1
            raise KubeApiError(503, "ServiceUnavailable", "later")
        return self.classes.get(pod["spec"]["runtimeClassName"])

    async def read_pull_secrets(self, pod: Json) -> dict[str, Json | None]:
        return {}


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.registry, self.objects = Registry(), Objects()
        self.images = ImageArchitectures(self.registry, lambda: self.now)
        self.offered = BOTH
        self.finder = PodFactFinder(self.objects, self.images, lambda: self.offered)


@pytest.fixture
def world() -> World:
    return World()


def pod(*images: str, **spec: Any) -> Json:
    containers = [{"name": f"c{n}", "image": image} for n, image in enumerate(images)]
    return {"metadata": {"name": "p", "uid": "u", "namespace": "n"}, "spec": {"containers": containers, **spec}}


async def test_the_images_say_on_which_architectures_the_pod_can_run(world: World) -> None:
    assert world.finder.peek(pod("app:1")) is None
    assert (await world.finder.find(pod("app:1"))).architectures == ("amd64", "arm64")
    assert (await world.finder.find(pod("app:1", "tool:1"))).architectures == ("arm64",)
    known = world.finder.peek(pod("app:1", "tool:1"))
    assert known is not None and known.architectures == ("arm64",)
    assert sorted(world.registry.asked) == [APP, TOOL], "each image once"
    world.now += TAG_TTL_S + 1
    assert world.finder.peek(pod("app:1")) is None, "a tag may have moved"


async def test_nobody_is_asked_where_there_is_no_choice(world: World) -> None:
    named = pod("app:1", nodeSelector={"kubernetes.io/arch": "arm64"})
    annotated = pod("app:1")
    annotated["metadata"]["annotations"] = {"vk-provider/architecture": "arm64"}
    wrong = pod("app:1")
    wrong["metadata"]["annotations"] = {"vk-provider/gpu-memory": "lots"}
    for subject in (named, annotated, wrong):
        given = world.finder.peek(subject)
        assert given is not None and given.architectures == ()
    world.offered = frozenset({"amd64"})
    given = world.finder.peek(pod("app:1"))
    assert given is not None and given.architectures == () and world.registry.asked == []


async def test_an_image_that_does_not_tell_leaves_it_to_the_node(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await world.finder.find(pod("app:1", "unknown:1"))).architectures == ()
    never = pod("app:1")
    never["spec"]["containers"][0]["imagePullPolicy"] = "Never"
    assert (await world.finder.find(never)).architectures == ()
    world.registry.images["docker.io/library/mainframe:1"] = frozenset({"s390x"})
    assert (await world.finder.find(pod("mainframe:1"))).architectures == ()
    world.registry.images["docker.io/library/x86:1"] = frozenset({"amd64"})
    assert (await world.finder.find(pod("tool:1", "x86:1"))).architectures == (), "no architecture has both"
    monkeypatch.setattr(architectures, "LIMIT_S", 0.01)
    world.registry.hangs = True
    assert (await world.finder.find(pod("slow:1"))).architectures == ()
    await world.finder.close()


async def test_pods_of_one_image_are_one_request(world: World) -> None:
    await asyncio.gather(*(world.finder.find(pod("app:1")) for _ in range(20)))
    assert world.registry.asked == [APP]


async def test_a_runtime_class_gives_its_annotations_and_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "RETRY_FIRST_S", 0.001)
    annotations = {"vk-provider/instance-family": "g5", "vk-provider/subnet": "subnet-1", "example.com/x": "y"}
    world.objects.classes["gpu"] = {"metadata": {"annotations": annotations}, "handler": "runc"}
    world.objects.failures = 2
    subject = pod("tool:1", runtimeClassName="gpu")
    assert world.finder.peek(subject) is None
    given = await world.finder.find(subject)
    assert dict(given.annotations) == {"vk-provider/instance-family": "g5", "vk-provider/subnet": "subnet-1"}
    assert given.architectures == ("arm64",)
    world.objects.read.add("gpu")
    assert world.finder.peek(subject) == given
    gone = await world.finder.find(pod("tool:1", runtimeClassName="gone"))
    assert gone.annotations == ()


class Locked(Registry):
    """Tells to one password alone."""

    async def fetch_architectures(self, reference: str, credential: RegistryCredential | None) -> frozenset[str]:
        if credential is None or credential.password != "right":
            self.asked.append(reference)
            raise RegistryError("no")
        return await super().fetch_architectures(reference, credential)


def secret_of(password: str, count: int = 1) -> Json:
    auths = {
        f"docker.io{'/library' * (number % 2)}": {"username": "u", "password": password} for number in range(count)
    }
    return {"data": {".dockerconfigjson": base64.b64encode(json.dumps({"auths": auths}).encode()).decode()}}


async def test_what_a_registry_does_not_tell_to_one_pod_is_told_to_another() -> None:
    """A pod without the password had all pods of the image started on the Node's architecture."""
    images = ImageArchitectures(Locked(), lambda: 0.0)
    assert await images.find(pod("tool:1"), {}) == ()
    assert await images.find(pod("tool:1"), {"s": secret_of("wrong")}) == ()
    assert await images.find(pod("tool:1"), {"s": secret_of("right")}) == ("arm64",)
    without = images.find(pod("app:1"), {})
    found = await asyncio.gather(without, images.find(pod("app:1"), {"s": secret_of("right")}))
    assert list(found) == [(), ("amd64", "arm64", "s390x")], "asked at the same time"
    assert images.peek(pod("tool:1")) == () and images.peek(pod("tool:1", imagePullSecrets=[{"name": "s"}])) is None


async def test_of_hostile_pull_secrets_only_so_much_is_looked_at() -> None:
    many = {
        "auths": {f"{'https://' * (n % 2)}docker.io{'/library/tool'[: n // 2]}": {"username": "u"} for n in range(30)}
    }
    text = base64.b64encode(json.dumps(many).encode()).decode()
    assert len(find_credentials(TOOL, {"s": {"data": {".dockerconfigjson": text}}})) == MAX_CREDENTIALS
    large = secret_of("x" * MAX_SECRET_CHARACTERS)
    assert find_credentials(TOOL, {"a": secret_of("right"), "b": large, "c": secret_of("late")})[0].password == "right"
    assert find_credentials(TOOL, {"b": large}) == []
    assert find_credentials("?", {"a": secret_of("right")}) == [], "not the name of an image"
