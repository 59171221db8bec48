"""Which machine image instances start from: by architecture, its ID in the settings or in an SSM parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vk_provider.cloud.aws.answers import to_architecture
from vk_provider.cloud.aws.operations import DESCRIBE_IMAGES, GET_PARAMETER, AwsApi
from vk_provider.cloud.aws.settings import RESOLVE_SSM, AwsCloudSettings
from vk_provider.errors import CloudRequestError

_MEMORY = 64


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """root_gib: the size of the root volume at least."""

    image_id: str
    architecture: str
    root_device: str
    root_gib: int


class Images:
    """`clock`: monotonic seconds. What was looked up is believed for settings.image_ttl_s."""

    def __init__(self, api: AwsApi, settings: AwsCloudSettings, clock: Callable[[], float]) -> None:
        self._api = api
        self._ttl_s = settings.image_ttl_s
        self._clock = clock
        self._named = {"amd64": settings.image_amd64, "arm64": settings.image_arm64}
        self._known: dict[str, tuple[ImageFacts, float]] = {}

    @property
    def architectures(self) -> tuple[str, ...]:
        return tuple(architecture for architecture, name in self._named.items() if name)

    async def find(self, architecture: str, name: str = "") -> ImageFacts:
        """name: an image, or a parameter that holds one; "" for that of the settings. Raises CloudRequestError when
        there is none, or one for another architecture."""
        name = name or self._named.get(architecture, "")
        if not name:
            raise CloudRequestError(f"InvalidAMIID.Unavailable: no machine image is configured for {architecture}")
        known = self._known.get(name)
        if known is None or known[1] <= self._clock():
            if len(self._known) >= _MEMORY:
                self._known.clear()
            known = self._known[name] = await self._look_up(name), self._clock() + self._ttl_s
        if known[0].architecture != architecture:
            raise CloudRequestError(
                f"InvalidParameterValue: image {known[0].image_id} is for {known[0].architecture or 'no known'} "
                f"architecture, not for {architecture}"
            )
        return known[0]

    async def _look_up(self, name: str) -> ImageFacts:
        image_id = name
        if name.startswith(RESOLVE_SSM):
            parameter = name.removeprefix(RESOLVE_SSM)
            image_id = (await self._api.call(GET_PARAMETER, {"Name": parameter})).parameter.value
        answer = await self._api.call(DESCRIBE_IMAGES, {"ImageIds": [image_id]})
        if not answer.images:
            raise CloudRequestError(f"InvalidAMIID.NotFound: there is no image {image_id}")
        image = answer.images[0]
        root = next((each for each in image.block_device_mappings if each.device_name == image.root_device_name), None)
        return ImageFacts(
            image_id=image.image_id,
            architecture=to_architecture(image.architecture),
            root_device=image.root_device_name,
            root_gib=root.ebs.volume_size if root is not None else 0,
        )
