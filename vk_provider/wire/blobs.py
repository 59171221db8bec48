"""Messages about the parts of images (blobs: configurations and layers, by digest) that instances fetch from others.

Each message carries the whole state. The agent tells what its runtime asks for and what it has; the provider answers
where each blob is to come from. An agent that is sent no SourcesMessage has its runtime ask the registry.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from vk_provider.wire.images import ImageDigest
from vk_provider.wire.values import Counter, Name, Uid

PEERS_FEATURE = "peers"
"""In the greeting of an agent that can fetch blobs from other agents, and serve them."""
MAX_WANTED = 32
"""A runtime downloads a few at once (containerd's max_concurrent_downloads is 3)."""
MAX_HELD = 256
"""That one agent tells: an image has a few dozen."""
MAX_FAILURES = 64


class BlobFailure(TypedDict):
    """The instance named as the source did not deliver: gone, slow, busy, or not the content of the digest."""

    digest: ImageDigest
    instance: Name


class BlobsMessage(TypedDict):
    """Up: the blobs of this instance.

    wanted:        which the runtime waits for
    fetching:      which the runtime is fetching from the registry
    held:          which are complete, newest first
    failed:        sources that did not deliver, since the agent has the pod
    peerBytes, registryBytes: fetched so far, since the agent has started
    """

    type: Literal["blobs"]
    podUID: Uid
    wanted: Annotated[list[ImageDigest], Meta(max_length=MAX_WANTED)]
    fetching: Annotated[list[ImageDigest], Meta(max_length=MAX_WANTED)]
    held: Annotated[list[ImageDigest], Meta(max_length=MAX_HELD)]
    failed: Annotated[list[BlobFailure], Meta(max_length=MAX_FAILURES)]
    peerBytes: Counter
    registryBytes: Counter


class PeerSource(TypedDict):
    """Another agent that has a blob. grant: see compute_grant."""

    instance: str
    address: str
    port: int
    grant: str


class BlobAnswer(TypedDict):
    """Where a wanted blob is to come from.

    kind:   registry; peer: from `source`; wait: another instance (`instance`) is fetching it, another answer follows
    size:   of the blob in bytes, as the image's manifest says; 0 when the provider does not know
    """

    digest: ImageDigest
    kind: Literal["registry", "peer", "wait"]
    size: int
    source: NotRequired[PeerSource]
    instance: NotRequired[str]


class SourcesMessage(TypedDict):
    """Down: answers to what the agent wants, as far as they are known. key: for the grants of those that ask this agent
    (hexadecimal)."""

    type: Literal["sources"]
    key: str
    answers: list[BlobAnswer]


def compute_grant(key: str, instance_id: str, digest: str) -> str:
    """What an agent shows to another one that has the key: the provider has seen that the pod of `instance_id` may have
    the blob. It does not expire: who may have read the bytes once may have kept them."""
    message = b"\n".join((instance_id.encode(), digest.encode()))
    return hmac.new(bytes.fromhex(key), message, hashlib.sha256).hexdigest()
