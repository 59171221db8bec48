"""Image references: the grammar of names, tags and digests (distribution reference)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vk_provider.podmodel.errors import InvalidImageName

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"^(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$")
_PATH = re.compile(rf"^{_COMPONENT}(?:/{_COMPONENT})*$")
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")
_DIGEST = re.compile(r"^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$")
_MAX_NAME_LENGTH = 255


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


def parse_image(image: str) -> ImageReference:
    """Parse a reference as written by users; raises InvalidImageName with the kubelet's message."""
    name, _, digest = image.partition("@")
    head, slash, rest = name.partition("/")
    if slash and (any(character in head for character in ".:") or head == "localhost" or head != head.lower()):
        domain, path = head, rest
    else:
        domain, path = "docker.io", name
    tag = ""
    if ":" in path:
        path, _, tag = path.rpartition(":")
        if not _TAG.match(tag):
            raise _invalid(image, "invalid reference format")
    if domain in ("docker.io", "index.docker.io"):
        domain = "docker.io"
        path = path if "/" in path else f"library/{path}"
    if path != path.lower():
        raise _invalid(image, "invalid reference format: repository name (" + path + ") must be lowercase")
    if not _DOMAIN.match(domain) or not _PATH.match(path) or ("@" in image and not _DIGEST.match(digest)):
        raise _invalid(image, "invalid reference format")
    if len(domain) + 1 + len(path) > _MAX_NAME_LENGTH:
        raise _invalid(image, f"repository name must not be more than {_MAX_NAME_LENGTH} characters")
    return ImageReference(domain, path, tag, digest)


def _invalid(image: str, reason: str) -> InvalidImageName:
    return InvalidImageName(f'couldn\'t parse image name "{image}": {reason}')
