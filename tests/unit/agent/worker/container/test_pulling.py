"""What a pull tells: of pull secrets that are not there, and of images that are."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import orjson
import pytest

from tests.unit.agent.worker.builders import container, pod
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.images import ImagePullError
from vk_provider.agent.worker.container.imageuse import ImageTeller
from vk_provider.agent.worker.container.pulling import ImagePuller, PresentImage, PullSource, describe_use
from vk_provider.agent.worker.errors import StartError
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.spec import ContainerRef
from vk_provider.wire.images import ImageUse


class Registry:
    """An ImageStore whose pulls fail with `error`, if there is one."""

    def __init__(self, error: ImagePullError | None) -> None:
        self._error = error

    async def pull(self, image: str, credentials: Any, sandbox_config: Any) -> str:
        if self._error is not None:
            raise self._error
        return "sha256:1"

    async def status(self, image: str) -> pb.Image:
        return pb.Image(id="sha256:1", size=7)


class Sink:
    """Keeps the reasons of events."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def send_event(self, pod_uid: str, event_type: str, reason: str, message: str, field_path: str = "") -> None:
        self.reasons.append(reason)


@pytest.mark.parametrize(
    ("error", "reasons"),
    [
        (None, ["Pulling", "Pulled"]),
        (ImagePullError("ErrImagePull", "denied"), ["Pulling", "Failed", "FailedToRetrieveImagePullSecret"]),
        (ImagePullError("RegistryUnavailable", "down"), ["Pulling", "Failed"]),
    ],
)
async def test_missing_pull_secrets_are_told_when_the_pull_failed(
    error: ImagePullError | None, reasons: list[str]
) -> None:
    images: Any = Registry(error)
    sink = Sink()
    main = container("main", imagePullPolicy="Always")
    source = PullSource(pod(main, imagePullSecrets=[{"name": "gone"}]), {"secrets": {"gone": None}})
    puller = ImagePuller(images, Recorder(sink, "u"))
    if error is None:
        await puller.ensure(ContainerRef("regular", main), source)
    else:
        with pytest.raises(StartError):
            await puller.ensure(ContainerRef("regular", main), source)
    assert sink.reasons == reasons


async def test_the_pods_secrets_are_tried_before_the_nodes_own_login() -> None:
    tried: list[Any] = []

    class Pulling(Registry):
        async def pull(self, image: str, credentials: Any, sandbox_config: Any) -> str:
            tried.append([(each.username, each.password) for each in credentials])
            return "sha256:1"

    images: Any = Pulling(None)
    host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    config = orjson.dumps({"auths": {"*.dkr.ecr.eu-central-1.amazonaws.com": {"username": "own", "password": "1"}}})
    references: Any = {
        "secrets": {"mine": {"data": {".dockerconfigjson": base64.b64encode(config).decode()}}},
        "registryLogins": {host: {"username": "AWS", "password": "2"}},
    }
    for image, secrets in ((f"{host}/a", ["mine"]), (f"{host}/a", []), ("other.example/a", ["mine"])):
        main = container("main", image=image, imagePullPolicy="Always")
        source = PullSource(pod(main, imagePullSecrets=[{"name": name} for name in secrets]), references)
        await ImagePuller(images, Recorder(Sink(), "u")).ensure(ContainerRef("regular", main), source)
    assert tried == [[("own", "1"), ("AWS", "2")], [("AWS", "2")], []]


DIGEST = "sha256:" + "1" * 64


def test_the_digests_told_are_those_in_the_references_own_repository() -> None:
    digests = ("docker.io/library/other@sha256:" + "2" * 64, f"docker.io/library/busybox@{DIGEST}")
    present = PresentImage("sha256:3", 0, "", 9, digests)
    assert describe_use("busybox:1", present, 1.23456) == {
        "image": "busybox:1",
        "digests": [DIGEST],
        "sizeBytes": 9,
        "pulled": True,
        "seconds": 1.235,
    }
    assert describe_use("registry.example/busybox:1", present, None)["digests"] == []


class Told:
    """Keeps the lists of images that were sent."""

    def __init__(self) -> None:
        self.lists: list[list[str]] = []

    def send_images(self, pod_uid: str, images: list[ImageUse]) -> None:
        self.lists.append([f"{use['image']} {use['pulled']}" for use in images])


def use(image: str, pulled: bool) -> ImageUse:
    return ImageUse(image=image, digests=[DIGEST], sizeBytes=1, pulled=pulled, seconds=0.0)


def memory(**node: Any) -> PodMemory:
    facts: Any = {"name": "n", "allocatable": {}, "clusterDNS": [], "clusterDomain": "", **node}
    return PodMemory(pod(container("main")), {}, facts)


def test_an_image_counts_as_pulled_although_a_second_container_finds_it_there() -> None:
    told = Told()
    teller = ImageTeller(told, memory(tellImages=True))
    for each in (use("a:1", True), use("a:1", False), use("b:1", False)):
        teller.tell(each)
    assert told.lists == [["a:1 True"], ["a:1 True", "b:1 False"]]


def test_a_provider_that_does_not_ask_is_told_nothing() -> None:
    told = Told()
    ImageTeller(told, memory()).tell(use("a:1", True))
    assert told.lists == []


async def test_an_image_that_was_pulled_is_told_once_it_is_there() -> None:
    images: Any = Registry(None)
    uses: list[ImageUse] = []
    main = container("main", imagePullPolicy="Always")
    puller = ImagePuller(images, Recorder(Sink(), "u"), uses.append)
    await puller.ensure(ContainerRef("regular", main), PullSource(pod(main), {}))
    assert [(each["pulled"], each["sizeBytes"]) for each in uses] == [(True, 7)]


class Absent(Registry):
    """No image is there."""

    async def status(self, image: str) -> Any:
        return None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image": "a b"}, "InspectFailed"),
        ({"image": "busybox:1", "imagePullPolicy": "Never"}, "ErrImageNeverPull"),
    ],
)
async def test_an_image_that_cannot_be_pulled_at_all_is_told_when_its_container_has_its_turn(
    fields: dict[str, str], reason: str
) -> None:
    images: Any = Absent(None)
    sink = Sink()
    main = ContainerRef("regular", {**container("main"), **fields})
    source = PullSource(pod(main.spec), {})
    puller = ImagePuller(images, Recorder(sink, "u"))
    puller.prefetch(main, source)
    await asyncio.sleep(0.01)
    assert sink.reasons == []
    for _ in range(2):
        with pytest.raises(StartError):
            await puller.ensure(main, source)
    assert sink.reasons == [reason, reason]
