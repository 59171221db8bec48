"""ClusterTrustBundles for projected volumes: selected by name or by signer and labels, merged into one PEM text."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator

from vk_provider.errors import NO_ANSWER, KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import Informer, StoreOptions, follow, key_by_name
from vk_provider.kube.paths import CLUSTER_TRUST_BUNDLES
from vk_provider.podmodel.labels import matches_selector

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----((?:(?!-----BEGIN ).)*?)-----END CERTIFICATE-----", re.DOTALL)
_WAIT_S = 5.0


def merge_trust_anchors(bundles: Iterable[str]) -> str:
    """All certificates of the PEM texts, each once, without headers and comments, in a stable order. Malformed blocks
    are skipped."""
    anchors = {anchor for bundle in bundles for anchor in _decode_blocks(bundle)}
    return "".join(_encode_block(anchor) for anchor in sorted(anchors))


def split_certificates(bundle: str) -> list[str]:
    """The certificates of a PEM text in their order, without headers and text between them. Malformed blocks are
    skipped."""
    return [_encode_block(data) for data in _decode_blocks(bundle)]


def _decode_blocks(bundle: str) -> Iterator[bytes]:
    """As Go's pem.Decode, which goes on behind a block that it cannot decode."""
    for block in _BLOCK.findall(bundle):
        # Headers of a PEM block end with an empty line.
        body = re.split(r"\r?\n\r?\n", block.strip(), maxsplit=1)[-1]
        with contextlib.suppress(ValueError):  # binascii.Error is one
            yield base64.b64decode("".join(body.split()).encode(), validate=True)


def _encode_block(data: bytes) -> str:
    lines = textwrap.wrap(base64.b64encode(data).decode(), 64)
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


class TrustBundles:
    """Follows ClusterTrustBundles once the first pod refers to one; a cluster may not have the API."""

    def __init__(self, client: KubeClient, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._informer = Informer(client, CLUSTER_TRUST_BUNDLES, None, self._apply, store=StoreOptions(key=key_by_name))
        self._task: asyncio.Task[None] | None = None

    async def select(self, name: str, signer_name: str, label_selector: Json | None) -> str:
        """Merged PEM text of the bundle called `name`, or of those of a signer that the selector matches; "" when there
        is none. Raises KubeApiError while they cannot be read."""
        await self._wait_synced()
        items = self._informer.items.values()
        if name:
            chosen = [item for item in items if item["metadata"]["name"] == name]
        else:
            chosen = [item for item in items if _selected(signer_name, label_selector, item)]
        return merge_trust_anchors(item["spec"].get("trustBundle") or "" for item in chosen)

    async def _wait_synced(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(follow(self._informer), name="watch clustertrustbundles")
        try:
            await asyncio.wait_for(self._informer.synced.wait(), _WAIT_S)
        except TimeoutError:
            message = f"ClusterTrustBundle informer has not yet synced ({self._informer.error})"
            raise KubeApiError(NO_ANSWER, "Timeout", message) from None

    def _apply(self, _kind: str, _item: Json) -> None:
        self._on_change()

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _selected(signer_name: str, label_selector: Json | None, item: Json) -> bool:
    if item["spec"].get("signerName") != signer_name:
        return False
    return matches_selector(label_selector, item["metadata"].get("labels") or {})
