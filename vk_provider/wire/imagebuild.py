"""The contract with a builder of prepared image stores: an instance without an agent and without a pod.

Its order comes with its user data, its answer is one line of its console. Both can be read by every principal that may
describe the instance in the cloud, so neither holds a credential.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson
from msgspec import Meta, Struct

from vk_provider.wire.images import ImageDigest
from vk_provider.wire.values import Counter, Reference

KIND: Final = "ImageBuild"
LABEL: Final = "vk-images"
"""Of a store's file system."""
STORE_DIRECTORY: Final = "store"
"""In it: containerd's root, with what the machine image and the set have."""
BASE_SIZE_FILE: Final = "base-bytes"
"""In it: bytes that were in use before the first image was pulled."""
MARK: Final = "vk-image-store"
MAX_LINE: Final = 2000
_NONCE = re.compile(r"[0-9a-f]{16}")
_NAMESPACE = uuid.UUID("7d0c3f0a-7f2e-5b8a-9a53-0f6b8f5f2a11")

Cause = Literal["refused", "corrupt", "full", "failed"]


class OrderedImage(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """As imagesets.PinnedImage."""

    reference: Reference
    digest: ImageDigest


class RegistryHost(Struct, frozen=True):
    """As in BootData.registries."""

    server: str = ""
    plain_http: bool = False


class BuildOrder(Struct, frozen=True, rename="camel", kw_only=True):
    """nonce: 16 hexadecimal digits, of this build alone; it begins the answer's line. max_bytes: that the images may
    take. limit_s: the builder turns itself off after so long, whatever has happened."""

    kind: Literal["ImageBuild"] = KIND
    nonce: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    images: Annotated[list[OrderedImage], Meta(min_length=1, max_length=256)]
    registries: dict[str, RegistryHost] = {}
    max_bytes: Annotated[int, Meta(ge=1)]
    limit_s: Annotated[int, Meta(ge=60, le=86400)]

    def to_user_data(self) -> str:
        return orjson.dumps(msgspec.to_builtins(self), option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    def from_user_data(cls, text: str) -> BuildOrder:
        """Raises ValueError with the reason."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise ValueError(f"user data is no order of a builder: {error}") from None


class BuildAnswer(Struct, frozen=True, rename="camel"):
    """size_bytes: that the images take, once they are there and the file system is unmounted; else `cause` says why
    there is no store."""

    size_bytes: Counter = 0
    cause: Cause | None = None
    message: Annotated[str, Meta(max_length=500)] = ""

    def to_line(self, nonce: str) -> str:
        """Without a line break; a message of several lines becomes one."""
        document: dict[str, Any] = {"sizeBytes": self.size_bytes}
        if self.cause is not None:
            printable = "".join(each if " " <= each <= "~" else " " for each in self.message)
            document = {"cause": self.cause, "message": " ".join(printable.split())[:500]}
        return f"{MARK} {nonce} {json.dumps(document)}"


def find_answer(console: str, nonce: str) -> BuildAnswer | None:
    """The last answer of this build in the text of a console; None where there is none yet. A console has the kernel's
    and everybody's lines, and may begin or end in the middle of one."""
    begin = f"{MARK} {nonce} "
    for line in reversed(console.splitlines()):
        at = line.find(begin)
        if at < 0 or len(line) > MAX_LINE:
            continue
        try:
            return msgspec.json.decode(line[at + len(begin) :].strip(), type=BuildAnswer)
        except msgspec.DecodeError:
            continue
    return None


def is_nonce(text: str) -> bool:
    return _NONCE.fullmatch(text) is not None


def find_uuid(nonce: str) -> str:
    """Of the file system of the store that a build makes: by it an instance knows its store among its volumes."""
    return str(uuid.uuid5(_NAMESPACE, nonce))
