"""Messages about the images of an instance: what the pod's references resolved to, and what that took.

The provider asks for them (NodeFacts.tellImages), so an agent tells nothing to a provider that does not know the
message. The whole list is told each time, and again when a session begins.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from vk_provider.wire.values import Counter, Figure, Reference, Uid

IMAGES_FEATURE = "images"
"""In the greeting of an agent that can tell its images."""
MAX_IMAGES = 256
"""That one message lists: a pod has far fewer."""

MAX_DIGESTS = 16
"""Of one image."""

ImageDigest = Annotated[str, Meta(max_length=71, pattern=r"^sha256:[0-9a-f]{64}\Z")]
"""Of an index or a manifest."""


class ImageUse(TypedDict):
    """One image of the pod, once it is there.

    image:     the reference as the pod has it, with `:latest` where it has neither tag nor digest
    digests:   under which the runtime knows the image in the reference's repository: what the reference resolved to is
               among them; CRI does not say which. Empty when it knows none, or only those of another algorithm
    sizeBytes: as CRI reports it
    pulled:    this instance has pulled it; false: it was there
    seconds:   that the pull took, 0 for an image that was there
    storeBytes, peerBytes, registryBytes: of its compressed parts, by where a pull found them: on the instance already,
               other instances, the registry
    """

    image: Reference
    digests: Annotated[list[ImageDigest], Meta(max_length=MAX_DIGESTS)]
    sizeBytes: Counter
    pulled: bool
    seconds: Figure
    storeBytes: NotRequired[Counter]
    peerBytes: NotRequired[Counter]
    registryBytes: NotRequired[Counter]


class ImagesMessage(TypedDict):
    """Up: the images that the pod has so far."""

    type: Literal["images"]
    podUID: Uid
    images: Annotated[list[ImageUse], Meta(max_length=MAX_IMAGES)]
