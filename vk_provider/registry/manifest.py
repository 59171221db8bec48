"""Which architectures an image has: the index lists them, a manifest of one platform leaves it to the configuration.
Pure.

Source: OCI image-spec (image index, manifest, configuration), Docker's manifest list, which has the same fields.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from vk_provider.podmodel.imagemanifest import parse_manifest

LINUX = "linux"
_Name = Annotated[str, Meta(max_length=64)]


class _Platform(Struct, gc=False):
    architecture: _Name = ""
    os: _Name = ""


def read_manifest(body: bytes) -> tuple[frozenset[str], str]:
    """(architectures of an index's images for Linux, digest of a single image's configuration, where its own
    architecture stands, "" for none). Raises ValueError for what is no manifest."""
    found = parse_manifest(body)
    if found is None:
        raise ValueError("not a manifest")
    return frozenset(each for _, each in found.children if each), found.config


def read_config(body: bytes) -> frozenset[str]:
    """The architecture of an image's configuration; empty for another operating system. Raises ValueError."""
    try:
        found = msgspec.json.decode(body, type=_Platform)
    except RecursionError:
        raise ValueError("a configuration that is nested too deeply") from None
    return frozenset((found.architecture,)) if found.os == LINUX and found.architecture else frozenset()
