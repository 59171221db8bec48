"""What the tags of a snapshot, or of a builder, say of a store. Pure.

The images are text, cut into tags: references have neither "=" nor "+", so "ref=digits+ref=digits" is read back alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vk_provider.cloud.base import TAG_IMAGE_SET, TAG_NAME, TAG_OWNER
from vk_provider.cloud.tags import MAX_TAGS, MAX_VALUE, check_tags
from vk_provider.imagesets.imageset import ImageSet, PinnedImage
from vk_provider.wire.imagebuild import is_nonce

TAG_LAYOUT: Final = "vk-provider/image-store-layout"
TAG_BUILD: Final = "vk-provider/image-build"
"""Nonce of the build (wire.imagebuild)."""
TAG_MACHINE_IMAGE: Final = "vk-provider/machine-image"
TAG_ARCHITECTURE: Final = "vk-provider/architecture"
TAG_SIZE: Final = "vk-provider/size-bytes"
TAG_PART: Final = "vk-provider/images-"
LAYOUT: Final = "1"
_OTHERS = 9
MAX_PARTS: Final = MAX_TAGS - _OTHERS
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHA256 = "sha256:"


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """nonce: of the build that has made it. machine_image: the ID of the one that the builder was of, whose images the
    store has as well. size_bytes: 0 on a builder."""

    images: ImageSet
    nonce: str
    machine_image: str
    architecture: str
    size_bytes: int = 0


def build_record_tags(owner: str, record: StoreRecord) -> dict[str, str] | None:
    """None for a set whose names do not fit into tags."""
    text = "+".join(f"{each.reference}={each.digest.removeprefix(_SHA256)}" for each in record.images.images)
    parts = [text[first : first + MAX_VALUE] for first in range(0, len(text), MAX_VALUE)]
    if len(parts) > MAX_PARTS:
        return None
    tags = {
        TAG_OWNER: owner,
        TAG_NAME: f"images {record.images.key}",
        TAG_IMAGE_SET: record.images.key,
        TAG_LAYOUT: LAYOUT,
        TAG_BUILD: record.nonce,
        TAG_MACHINE_IMAGE: record.machine_image,
        TAG_ARCHITECTURE: record.architecture,
        **({TAG_SIZE: str(record.size_bytes)} if record.size_bytes else {}),
        **{f"{TAG_PART}{number:02}": part for number, part in enumerate(parts)},
    }
    check_tags(tags)
    return tags


def parse_record(tags: Mapping[str, str]) -> StoreRecord | None:
    """None for tags that are of another layout, or damaged: somebody may have changed them by hand."""
    if tags.get(TAG_LAYOUT) != LAYOUT or not is_nonce(nonce := tags.get(TAG_BUILD, "")):
        return None
    text = "".join(tags[key] for key in sorted(tags) if key.startswith(TAG_PART))
    images = []
    for item in text.split("+"):
        reference, _, digits = item.partition("=")
        if not reference or not _DIGEST.fullmatch(digits):
            return None
        images.append(PinnedImage(reference, _SHA256 + digits))
    found = ImageSet.of(images)
    size = tags.get(TAG_SIZE, "0")
    if found.key != tags.get(TAG_IMAGE_SET) or not (size.isascii() and size.isdecimal() and len(size) < 16):
        return None
    return StoreRecord(found, nonce, tags.get(TAG_MACHINE_IMAGE, ""), tags.get(TAG_ARCHITECTURE, ""), int(size))
