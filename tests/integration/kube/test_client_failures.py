"""The client against an API server that misbehaves."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.integration.kube.fakeapi import FakeApi, serving, status, write_kubeconfig
from vk_provider.errors import BadStartError, KubeApiError
from vk_provider.kube.client import KubeClient
from vk_provider.kube.paths import PODS, pod_path


@asynccontextmanager
async def connected(api: FakeApi, directory: Path) -> AsyncIterator[KubeClient]:
    async with serving(api, directory) as kubeconfig:
        client = await KubeClient.connect(str(kubeconfig))
        try:
            yield client
        finally:
            await client.close()


def answer(response: web.StreamResponse) -> Any:
    async def handle(_request: web.Request) -> web.StreamResponse:
        return response

    return handle


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_calls_are_measured_by_verb_and_resource(tmp_path: Path) -> None:
    api, seen = FakeApi(), []
    async with connected(api, tmp_path) as client:
        client.metrics_hook = lambda verb, resource, code, seconds: seen.append((verb, resource, code))
        await client.get(pod_path("ns", "p"))
        await client.patch_strategic(pod_path("ns", "p", "status"), {})
        api.next_answers = [answer(status(404, "NotFound"))]
        with pytest.raises(KubeApiError):
            await client.delete(pod_path("ns", "p"))
    assert seen == [("get", "pods", 200), ("patch", "pods/status", 200), ("delete", "pods", 404)]


async def test_an_error_carries_status_reason_and_message(tmp_path: Path) -> None:
    api = FakeApi()
    async with connected(api, tmp_path) as client:
        api.next_answers = [answer(status(409, "Conflict", "the object has been modified"))]
        with pytest.raises(KubeApiError, match="has been modified") as caught:
            await client.put(pod_path("ns", "p"), {})
        assert (caught.value.status, caught.value.reason) == (409, "Conflict")
        api.next_answers = [answer(web.Response(status=502, text="bad gateway"))]
        with pytest.raises(KubeApiError, match="bad gateway"):
            await client.get(PODS, {"limit": "1"})


async def test_too_many_requests_is_retried_even_for_a_post(tmp_path: Path) -> None:
    api = FakeApi()
    async with connected(api, tmp_path) as client:
        api.next_answers = [answer(status(429, "TooManyRequests", headers={"Retry-After": "0"})) for _ in range(2)]
        assert (await client.create(pod_path("ns"), {}))["method"] == "POST"


async def test_a_lost_connection_is_retried_but_not_for_a_post(tmp_path: Path) -> None:
    api = FakeApi()
    async with connected(api, tmp_path) as client:
        api.next_answers = [cut]
        assert (await client.patch_strategic(pod_path("ns", "p"), {}))["method"] == "PATCH"
        api.next_answers = [cut]
        with pytest.raises(KubeApiError) as caught:
            await client.create(pod_path("ns"), {})
        assert caught.value.status == 0


async def test_no_answer_in_time_is_an_error_without_status(tmp_path: Path) -> None:
    api = FakeApi()

    async def slow(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(5)
        return web.Response()

    async with connected(api, tmp_path) as client:
        api.next_answers = [slow]
        with pytest.raises(KubeApiError, match="no answer within") as caught:
            await client.request("GET", PODS, timeout_s=0.05, retry=False)
        assert (caught.value.status, caught.value.reason) == (0, "Timeout")


async def test_a_rotated_token_is_read_again_after_a_401(tmp_path: Path) -> None:
    api = FakeApi()
    async with connected(api, tmp_path) as client:
        (tmp_path / "token").write_text("t2")
        api.next_answers = [answer(status(401, "Unauthorized"))]
        await client.get(pod_path("ns", "p"))
    assert [headers["Authorization"] for headers in api.headers[-2:]] == ["Bearer t1", "Bearer t2"]


async def test_a_list_comes_in_pages_of_one_version(tmp_path: Path) -> None:
    api = FakeApi()
    for number in range(7):
        api.put(f"p{number}")
    async with connected(api, tmp_path) as client:
        pages = [(len(list(items)), version) async for items, version in client.list_pages(PODS, page_size=3)]
    assert pages == [(3, "17"), (3, "17"), (1, "17")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        ("{]", "cannot be used"),
        ("just words", "is not a kubeconfig"),
        ("", "is not a kubeconfig"),
        ("[1, 2]", "is not a kubeconfig"),
        (json.dumps({"clusters": [], "contexts": [], "users": [], "current-context": "x"}), "cannot be used"),
    ],
)
async def test_a_bad_kubeconfig_is_one_clear_line(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadStartError, match=says) as caught:
        await KubeClient.connect(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_server_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{port}", tmp_path / "token")
    with pytest.raises(BadStartError, match="does not answer") as caught:
        await KubeClient.connect(str(path), reach_timeout_s=0.2)
    assert "\n" not in str(caught.value)


async def test_refused_credentials_are_one_clear_line(tmp_path: Path) -> None:
    api = FakeApi()
    api.next_answers = [answer(status(401, "Unauthorized", "Unauthorized"))]
    async with serving(api, tmp_path) as kubeconfig:
        with pytest.raises(BadStartError, match="refuses the credentials"):
            await KubeClient.connect(str(kubeconfig))


async def test_an_exec_plugin_gives_the_token(tmp_path: Path) -> None:
    api = FakeApi()
    plugin = tmp_path / "plugin"
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "from-plugin"},
    }
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(credential)}'\n")
    plugin.chmod(0o755)
    async with serving(api, tmp_path) as kubeconfig:
        config = json.loads(kubeconfig.read_text())
        command = {"apiVersion": credential["apiVersion"], "command": str(plugin), "interactiveMode": "Never"}
        config["users"][0]["user"] = {"exec": command}
        kubeconfig.write_text(json.dumps(config))
        client = await KubeClient.connect(str(kubeconfig))
        await client.close()
    assert api.headers[-1]["Authorization"] == "Bearer from-plugin"


async def test_a_watch_that_falls_silent_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vk_provider.kube.client._WATCH_SILENCE_S", 0.1)
    api = FakeApi()
    async with connected(api, tmp_path) as client, asyncio.timeout(5):
        assert [event async for event in client.watch(PODS, None, "10")] == []
    assert api.watch_from == ["10"]
