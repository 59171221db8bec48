"""/net/explain of a Node's kubelet API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest

from tests.unit.kubelet.rig import FakeHandle, Rig, make_pod, running_status
from vk_provider.errors import KubeApiError
from vk_provider.explain.target import QuestionError


class Asked:
    """Answers with what it was asked, or raises."""

    error: Exception | None = None

    async def explain(self, uid: str, written: str, protocol: str) -> Mapping[str, object]:
        if self.error is not None:
            raise self.error
        return {"asked": [uid, written, protocol]}


@pytest.fixture
def explainer() -> Asked:
    return Asked()


@pytest.fixture
async def asking(tmp_path: Path, explainer: Asked) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, explainer=explainer)
    rig.source.handles.append(FakeHandle(make_pod(), running_status()))
    elsewhere = make_pod("far", "uid-2")
    elsewhere["spec"]["nodeName"] = "node-2"
    rig.source.handles.append(FakeHandle(elsewhere, running_status()))
    await rig.start()
    yield rig
    await rig.stop()


async def test_the_question_is_passed_on_for_a_pod_of_this_node(asking: Rig) -> None:
    status, body, headers = await asking.ask("GET", "/net/explain/ns/web?target=a.b%3A80&protocol=UDP")
    assert (status, json.loads(body)) == (200, {"asked": ["uid-1", "a.b:80", "UDP"]})
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("name", ["nobody", "far"])
async def test_another_nodes_pod_is_not_there(asking: Rig, name: str) -> None:
    assert (await asking.ask("GET", f"/net/explain/ns/{name}?target=a"))[:2] == (404, f'pod "{name}" does not exist')


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (QuestionError("say the port"), 400, "say the port"),
        (
            KubeApiError(0, "Timeout", "no answer"),
            502,
            "the API server does not answer the provider's question: no answer",
        ),
        (TimeoutError(), 503, "the provider has not come to an answer in time: ask again"),
    ],
)
async def test_errors_are_told_in_words(
    asking: Rig, explainer: Asked, error: Exception, status: int, words: str
) -> None:
    explainer.error = error
    assert (await asking.ask("GET", "/net/explain/ns/web?target=a"))[:2] == (status, words)


async def test_it_is_read_only_and_takes_the_permission_for_the_nodes_proxy(asking: Rig) -> None:
    assert (await asking.ask("POST", "/net/explain/ns/web?target=a"))[0] == 405
    assert (await asking.ask("GET", "/net/explain/ns/web?target=a", headers={}))[0] == 401
    user = asking.ca.issue("somebody")
    async with aiohttp.ClientSession() as http:
        url = f"https://127.0.0.1:{asking.server.port}/net/explain/ns/web?target=a"
        async with http.get(url, ssl=asking.ca.client_context(user)) as response:
            assert (response.status, await response.text()) == (
                403,
                "Forbidden (user=somebody, verb=get, resource=nodes, subresource(s)=[proxy])\n",
            )
