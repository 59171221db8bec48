"""Image references: the grammar of names, tags and digests (distribution reference)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vk_provider.podmodel.errors import InvalidImageName

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REMAINDER = re.compile(
    rf"({_COMPONENT}(?:/{_COMPONENT})*)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@({_DIGEST}))?"
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_MAX_PATH_LENGTH = 255
_MAX_LENGTH = 2048
"""Of a whole reference: more than any registry takes, and less than it takes a while to look at."""
_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
"""Digits of the digests that can be checked."""


@dataclass(frozen=True)
class ImageReference:
    """A parsed reference: domain "docker.io", path "library/busybox", tag and digest "" when absent."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """Domain and path, as credentials are matched against it."""
        return f"{self.domain}/{self.path}"

    @property
    def canonical(self) -> str:
        """The one name that a runtime keeps the image under: with its digest, else with its tag or `:latest`."""
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag or 'latest'}"


def parse_image(image: str) -> ImageReference:
    """Parse a reference as written by users; raises InvalidImageName with the kubelet's message."""
    if _IDENTIFIER.fullmatch(image):
        raise _invalid(image, f"invalid repository name ({image}), cannot specify 64-byte hexadecimal strings")
    if len(image) > _MAX_LENGTH:
        raise _invalid(image[:_MAX_LENGTH], "invalid reference format")
    domain, remainder = _split_domain(image)
    remote = remainder.partition(":")[0]
    if remote != remote.lower():
        raise _invalid(image, f"invalid reference format: repository name ({remote}) must be lowercase")
    parts = _REMAINDER.fullmatch(remainder)
    if parts is None or not _DOMAIN.fullmatch(domain):
        raise _invalid(image, "invalid reference format")
    path, tag, digest = (part or "" for part in parts.groups())
    if len(path) > _MAX_PATH_LENGTH:
        raise _invalid(image, f"repository name must not be more than {_MAX_PATH_LENGTH} characters")
    complaint = _find_digest_fault(digest) if digest else ""
    if complaint:
        raise _invalid(image, complaint)
    return ImageReference(domain, path, tag, digest)


def _split_domain(image: str) -> tuple[str, str]:
    """Return the registry's domain and the rest; short names are Docker Hub's."""
    head, slash, rest = image.partition("/")
    if slash and (any(character in head for character in ".:") or head == "localhost" or head != head.lower()):
        domain, remainder = head, rest
    else:
        domain, remainder = "docker.io", image
    if domain == "index.docker.io":
        domain = "docker.io"
    if domain == "docker.io" and "/" not in remainder:
        remainder = f"library/{remainder}"
    return domain, remainder


def _find_digest_fault(digest: str) -> str:
    algorithm, _, digits = digest.partition(":")
    if algorithm not in _HEX_DIGITS:
        return "unsupported digest algorithm"
    if len(digits) != _HEX_DIGITS[algorithm]:
        return "invalid checksum digest length"
    return "" if digits == digits.lower() else "invalid checksum digest format"


def _invalid(image: str, reason: str) -> InvalidImageName:
    return InvalidImageName(f'couldn\'t parse image name "{image}": {reason}')
