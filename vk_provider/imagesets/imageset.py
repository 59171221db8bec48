"""Images by name and digest, and sets of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, order=True)
class PinnedImage:
    """reference: canonical (podmodel.imagename); digest: of the index or manifest that it resolved to, "sha256:..."."""

    reference: str
    digest: str

    @property
    def repository(self) -> str:
        """The reference without tag or digest."""
        return split_reference(self.reference)[0]


@dataclass(frozen=True)
class ImageSet:
    """What one store holds beside what every instance has; one digest for each reference."""

    images: tuple[PinnedImage, ...]

    @classmethod
    def of(cls, images: Iterable[PinnedImage]) -> ImageSet:
        return cls(tuple(sorted(set(images))))

    @cached_property
    def references(self) -> frozenset[str]:
        return frozenset(image.reference for image in self.images)

    @cached_property
    def key(self) -> str:
        """Name of the set: 16 hexadecimal digits made of its images."""
        text = "\n".join(f"{image.reference} {image.digest}" for image in self.images)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def split_reference(canonical: str) -> tuple[str, str]:
    """(repository, what comes after it: the tag or the digest)."""
    name, at, digest = canonical.partition("@")
    if at:
        return name, digest
    repository, _, tag = name.rpartition(":")
    return repository, tag
