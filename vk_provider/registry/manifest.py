"""Which architectures an image has: the index lists them, a manifest of one platform leaves it to the configuration.
Pure.

Source: OCI image-spec (image index, manifest, configuration), Docker's manifest list, which has the same fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

MAX_MANIFEST_BYTES = 4 << 20
"""What registries must accept, by the distribution-spec."""
MAX_PLATFORMS = 1000
LINUX = "linux"
_Name = Annotated[str, Meta(max_length=64)]


class _Platform(Struct, gc=False):
    architecture: _Name = ""
    os: _Name = ""


class _Descriptor(Struct, gc=False):
    digest: Annotated[str, Meta(max_length=256)] = ""
    platform: _Platform | None = None


class _Manifest(Struct, gc=False):
    manifests: Annotated[list[_Descriptor], Meta(max_length=MAX_PLATFORMS)] | None = None
    config: _Descriptor | None = None


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """architectures: of an index, those of its images for Linux; config_digest: of a single image, where its own
    architecture stands; "" for none."""

    architectures: frozenset[str] = frozenset()
    config_digest: str = ""


def read_manifest(body: bytes) -> ImageManifest:
    """Raises ValueError for what is no manifest."""
    found = msgspec.json.decode(body, type=_Manifest)
    if found.manifests is not None:
        platforms = (each.platform for each in found.manifests)
        return ImageManifest(frozenset(each.architecture for each in platforms if each and each.os == LINUX))
    return ImageManifest(config_digest=found.config.digest if found.config is not None else "")


def read_config(body: bytes) -> frozenset[str]:
    """The architecture of an image's configuration; empty for another operating system. Raises ValueError."""
    found = msgspec.json.decode(body, type=_Platform)
    return frozenset((found.architecture,)) if found.os == LINUX and found.architecture else frozenset()
