"""`vk-provider net explain` against an API server that passes on to a Node, as it is asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.unit.explain.test_report import make
from vk_provider.cli import main
from vk_provider.errors import EXIT_BAD_START


class ApiServer:
    """answer: (status, body) of the Node; pods: by namespace/name, with their Node."""

    def __init__(self) -> None:
        self.pods = {"shop/client": "n1", "default/other": "n1", "shop/loose": ""}
        self.answer: tuple[int, Any] = (200, make())
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.more: list[tuple[str, Any]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="API server", daemon=True)

    def start(self) -> str:
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_get("/version", self._version)
        app.router.add_get("/api/v1/namespaces/{namespace}/pods/{name}", self._pod)
        for path, handler in self.more:
            app.router.add_get(path, handler)
        app.router.add_get("/api/v1/nodes/{node}/proxy/{path:.*}", self._node)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({})

    async def _pod(self, request: web.Request) -> web.Response:
        node = self.pods.get(f"{request.match_info['namespace']}/{request.match_info['name']}")
        if node is None:
            message = f'pods "{request.match_info["name"]}" not found'
            return web.json_response({"reason": "NotFound", "message": message}, status=404)
        return web.json_response({"spec": {"nodeName": node}})

    async def _node(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, dict(request.query)))
        status, body = self.answer
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=self.headers)


def write_kubeconfig(path: Path, server: str) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def api() -> Iterator[ApiServer]:
    made = ApiServer()
    yield made
    made.stop()


@pytest.fixture
def run(api: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    kubeconfig = write_kubeconfig(tmp_path / "config", api.start())

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["net", "explain", "--kubeconfig", str(kubeconfig), *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_the_pods_node_is_asked_and_the_exit_code_is_the_verdict(api: ApiServer, run: Any) -> None:
    code, out, err = run("shop/client", "web:80", "--protocol", "TCP")
    assert (code, err) == (1, "") and out.endswith("=> dropped: by them\n   next: do something\n")
    assert api.asked == [("/api/v1/nodes/n1/proxy/net/explain/shop/client", {"target": "web:80", "protocol": "TCP"})]
    good = make()
    good["verdict"] = {"outcome": "connects", "connects": True, "text": "connects", "next": ""}
    api.answer = (200, good)
    assert run("-n", "shop", "client", "web")[0] == 0
    assert run("other", "web")[0] == 0
    assert [path.rpartition("explain/")[2] for path, _ in api.asked[1:]] == ["shop/client", "default/other"]


def test_the_document_is_printed_as_it_is(api: ApiServer, run: Any) -> None:
    code, out, _ = run("shop/client", "web", "-o", "json")
    assert code == 1 and json.loads(out) == make()


@pytest.mark.parametrize(
    ("arguments", "answer", "says"),
    [
        (("shop/nobody", "web"), None, 'pods "nobody" not found'),
        (("shop/loose", "web"), None, "pod shop/loose is not bound to a Node yet"),
        (("a/b/c", "web"), None, "POD is written NAME or NAMESPACE/NAME"),
        (("../../x", "web"), None, "POD is written NAME or NAMESPACE/NAME"),
        (("shop/client", "web"), (400, "say which port"), "say which port"),
        (("shop/client", "web"), (404, 'pod "client" does not exist'), 'pod "client" does not exist'),
        (("shop/client", "web"), (404, "404 page not found\n"), "Node n1 of pod shop/client is not one of vk-provider"),
    ],
)
def test_a_bad_question_has_an_exit_code_of_its_own(
    api: ApiServer, run: Any, arguments: tuple[str, ...], answer: tuple[int, str] | None, says: str
) -> None:
    api.answer = answer or api.answer
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and err.startswith("vk-provider: ") and says in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((403, "Forbidden (user=u, verb=get, resource=nodes, subresource(s)=[proxy])"), "subresource(s)=[proxy]"),
        ((200, {"verdict": {"connects": True}}), "the provider's answer is of another version"),
        ((200, "no JSON"), "invalid JSON"),
        ((502, "the API server does not answer the provider's question"), "does not answer"),
    ],
)
def test_who_cannot_be_asked_is_no_verdict(api: ApiServer, run: Any, answer: tuple[int, Any], says: str) -> None:
    api.answer = answer
    code, out, err = run("shop/client", "web")
    assert (code, out) == (EXIT_BAD_START, "") and says in err


@pytest.mark.parametrize("status", [400, 404, 502, 200])
def test_no_answer_of_a_node_moves_the_cursor(api: ApiServer, run: Any, status: int) -> None:
    said = "bad\x1b[2J\n\u202ething " * 100
    api.answer = (status, {said: 1} if status == 200 else said)
    code, out, err = run("shop/client", "web")
    assert code in (2, EXIT_BAD_START) and out == ""
    assert err.endswith("\n") and err[:-1].isprintable() and 0 < len(err) < 1100
    assert status == 200 or "bad?[2J??thing bad" in err


def test_a_node_that_cannot_answer_is_asked_once(api: ApiServer, run: Any) -> None:
    """It has its own limit, and each attempt would wait for it."""
    api.answer, api.headers = (503, "the provider has not come to an answer in time: ask again"), {"Retry-After": "0"}
    code, _, err = run("shop/client", "web")
    assert code == EXIT_BAD_START and "ask again" in err and len(api.asked) == 1


def test_wrong_arguments_are_a_bad_question(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["net"], ["net", "explain", "pod"], ["net", "explain", "pod", "web", "-o", "yaml"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    capsys.readouterr()
