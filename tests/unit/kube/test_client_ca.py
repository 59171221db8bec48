"""The CA for client certificates that the cluster publishes."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube import client_ca
from vk_provider.kube.client_ca import ClusterClientCa


class Api:
    """Gives `answers` one after the other, then waits."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.paths: list[str] = []
        self.empty = asyncio.Event()

    async def get(self, path: str, timeout_s: float) -> Json:
        self.paths.append(path)
        if not self.answers:
            self.empty.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"data": answer}


def make(api: Api) -> ClusterClientCa:
    return ClusterClientCa(api)


async def test_the_bundle_is_what_the_api_server_publishes() -> None:
    api = Api({"client-ca-file": "PEM\n", "requestheader-client-ca-file": "other"})
    assert await make(api).load() == "PEM"
    assert api.paths == ["/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"]


@pytest.mark.parametrize("answer", [{}, None, KubeApiError(403, "Forbidden", "no"), KubeApiError(404, "NotFound", "")])
async def test_nobody_is_trusted_where_it_cannot_be_read(answer: Any) -> None:
    assert await make(Api(answer)).load() == ""


async def test_changes_are_followed_and_failures_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_ca, "_READ_S", 0.0)
    monkeypatch.setattr(client_ca, "_RETRY_S", 0.0)
    down, taken = KubeApiError(0, "Unreachable", "down"), list[str]()
    first, second, broken = ({"client-ca-file": pem} for pem in ("one", "two", "broken"))
    api = Api(down, first, first, down, broken, second, {})
    cluster = make(api)
    known = await cluster.load()

    def take(pem: str) -> None:
        if pem == "broken":
            raise ssl.SSLError("not PEM")
        taken.append(pem)

    task = asyncio.create_task(cluster.run(take))
    await asyncio.wait_for(api.empty.wait(), 30)
    assert (known, taken) == ("", ["one", "two", ""])
    task.cancel()
