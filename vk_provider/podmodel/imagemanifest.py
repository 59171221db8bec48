"""Manifests and indexes of images: which parts they name. Source: image-spec v1.1 (manifest.md, image-index.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

MAX_MANIFEST_BYTES = 4 << 20
"""As registries take them (distribution-spec, "Pushing Manifests")."""
MAX_PARTS = 2000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """blobs: digest to size in bytes of configuration and layers; children: (digest, architecture) of an index's
    manifests for Linux, attestations left out; config: digest of the configuration, "" in an index."""

    blobs: dict[str, int]
    children: tuple[tuple[str, str], ...] = ()
    config: str = ""


def parse_manifest(content: bytes) -> Manifest | None:
    """None for anything that is neither a manifest nor an index, or names more than MAX_PARTS."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    entries = document.get("manifests")
    if isinstance(entries, list):
        return _parse_index(entries) if len(entries) <= MAX_PARTS else None
    config, layers = document.get("config"), document.get("layers")
    if not isinstance(config, dict) or not isinstance(layers, list) or len(layers) > MAX_PARTS:
        return None
    blobs = {}
    for entry in (config, *layers):
        found = _descriptor(entry)
        if found is None:
            return None
        blobs[found[0]] = found[1]
    return Manifest(blobs, config=next(iter(blobs)))


def select_children(manifest: Manifest, architectures: Collection[str]) -> list[str]:
    """Digests of the children for these architectures; all where an entry names none."""
    return [digest for digest, architecture in manifest.children if not architecture or architecture in architectures]


def _parse_index(entries: list[Any]) -> Manifest | None:
    children = []
    for entry in entries:
        found = _descriptor(entry)
        if found is None:
            return None
        platform = entry.get("platform")
        platform = platform if isinstance(platform, dict) else {}
        if platform.get("os", "linux") == "linux":
            children.append((found[0], str(platform.get("architecture") or "")))
    return Manifest({}, tuple(children))


def _descriptor(entry: Any) -> tuple[str, int] | None:
    if not isinstance(entry, dict):
        return None
    digest, size = entry.get("digest"), entry.get("size")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return None
    return (digest, size) if isinstance(size, int) and 0 <= size < 1 << 50 else None
