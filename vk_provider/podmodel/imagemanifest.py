"""Manifests and indexes of images: which parts they name. Source: image-spec v1.1 (manifest.md, image-index.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

MAX_MANIFEST_BYTES = 4 << 20
"""As registries take them (distribution-spec, "Pushing Manifests")."""
MAX_PARTS = 2000


@dataclass(frozen=True, slots=True)
class Manifest:
    """blobs: digest to size in bytes of configuration and layers; children: (digest, architecture) of an index's
    manifests for Linux, attestations left out; config: digest of the configuration, "" in an index."""

    blobs: dict[str, int]
    children: tuple[tuple[str, str], ...] = ()
    config: str = ""


class _Platform(Struct, gc=False):
    architecture: str | None = None
    os: str | None = "linux"


class _Descriptor(Struct, gc=False):
    digest: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
    size: Annotated[int, Meta(ge=0, lt=1 << 50)]
    platform: _Platform | None = None


_Descriptors = Annotated[list[_Descriptor], Meta(max_length=MAX_PARTS)]


class _Document(Struct, gc=False):
    """Of all else nothing is kept while it is decoded."""

    manifests: _Descriptors | None = None
    config: _Descriptor | None = None
    layers: _Descriptors | None = None


_DECODER = msgspec.json.Decoder(_Document)


def parse_manifest(content: bytes) -> Manifest | None:
    """None for anything that is neither a manifest nor an index, or names more than MAX_PARTS."""
    try:
        document = _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if document.manifests is not None:
        return _make_index(document.manifests)
    if document.config is None or document.layers is None:
        return None
    return Manifest(
        {each.digest: each.size for each in (document.config, *document.layers)}, (), document.config.digest
    )


def select_children(manifest: Manifest, architectures: Collection[str]) -> list[str]:
    """Digests of the children for these architectures; all where an entry names none."""
    return [digest for digest, architecture in manifest.children if not architecture or architecture in architectures]


def _make_index(entries: Iterable[_Descriptor]) -> Manifest:
    platforms = ((each.digest, each.platform or _Platform()) for each in entries)
    children = ((digest, platform.architecture or "") for digest, platform in platforms if platform.os == "linux")
    return Manifest({}, tuple(children))
