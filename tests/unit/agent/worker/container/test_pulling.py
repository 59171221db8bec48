"""What a pull tells about pull secrets that are not there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.agent.worker.builders import container, pod
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.images import ImagePullError
from vk_provider.agent.worker.container.pulling import ImagePuller, PullSource
from vk_provider.agent.worker.errors import StartError
from vk_provider.agent.worker.recorder import Recorder
from vk_provider.agent.worker.rules.spec import ContainerRef


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
