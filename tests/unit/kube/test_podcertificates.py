"""The certificate of one projection: what a signer may answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.unit.kube.test_certificates import block
from vk_provider.jsontypes import Json
from vk_provider.kube import podcertificates
from vk_provider.kube.podcertificates import PodCertificateSource

POD: Json = {"metadata": {"name": "p", "namespace": "ns", "uid": "uid-1"}, "spec": {"nodeName": "n"}}
SOURCE: Json = {"signerName": "example.com/signer", "keyType": "ED25519"}


class Signer:
    """An API server whose signer decides each request with the next of `statuses`, the last for ever."""

    def __init__(self, statuses: list[Any]) -> None:
        self._statuses = statuses
        self.created = 0

    async def get(self, path: str) -> Json:
        return {"metadata": {"uid": "uid-2"}}

    async def create(self, path: str, body: Json) -> Json:
        self.created += 1
        return {"metadata": {"name": f"req-{self.created}"}}

    async def list_pages(
        self, path: str, query: Json | None = None, *, read: Any = None
    ) -> AsyncIterator[tuple[list[Json], str]]:
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        metadata = {"name": f"req-{self.created}", "uid": f"uid-{self.created}", "resourceVersion": "1"}
        yield [{"metadata": metadata, "status": status}], "1"

    async def watch(
        self, path: str, query: Json | None, resource_version: str, on_open: Callable[[], None]
    ) -> AsyncIterator[Json]:
        on_open()
        await asyncio.Event().wait()
        yield {}


def decided(chain: Any, begin: Any = "2126-01-01T00:00:00Z") -> Json:
    return {"conditions": [{"type": "Issued"}], "certificateChain": chain, "beginRefreshAt": begin}


async def issue(monkeypatch: pytest.MonkeyPatch, statuses: list[Any]) -> tuple[PodCertificateSource, Signer]:
    monkeypatch.setattr(podcertificates, "Backoff", lambda first_s, max_s: Quick())
    changed = asyncio.Event()
    signer: Any = Signer(statuses)
    source = PodCertificateSource(signer, POD, SOURCE, changed.set, lambda *_: None)
    task = asyncio.create_task(source.run())
    async with asyncio.timeout(10):
        await asyncio.wait({task, asyncio.create_task(changed.wait())}, return_when=asyncio.FIRST_COMPLETED)
    assert not task.done(), task.exception()
    task.cancel()
    await asyncio.wait({task})
    return source, signer


class Quick:
    def next_delay_s(self) -> float:
        return 0.01

    def reset(self) -> None:
        """Always as quick."""


async def test_a_malformed_block_in_the_chain_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    source, signer = await issue(monkeypatch, [decided(block("YmJ") + block("YWFh"))])
    assert source.current is not None and source.current.certificate_chain == block("YWFh")
    assert signer.created == 1


@pytest.mark.parametrize(
    "strange",
    [
        decided(""),
        decided(block("YmJ")),
        decided(None),
        decided(5),
        decided(block("YWFh"), begin="soon"),
        decided(block("YWFh"), begin=None),
        {"conditions": [{}]},
        {"conditions": [{"type": "Suspended"}]},
    ],
    ids=str,
)
async def test_an_answer_that_nobody_expects_is_that_pods_error_and_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, strange: Json
) -> None:
    source, signer = await issue(monkeypatch, [strange, decided(block("YWFh"))])
    assert source.current is not None and source.error is None
    assert signer.created == 2
