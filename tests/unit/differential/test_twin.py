"""When things are done to a twin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.cluster.errors import ClusterError
from tests.differential.actions import Actor, read_all, read_lines
from tests.differential.api import Answer, Api
from tests.differential.case import Action, Case
from tests.differential.history import History
from tests.differential.taints import KEY, TAINT, add_taint, remove_taint
from tests.differential.twin import Twin, lanes, prepare_pod
from vk_provider.jsontypes import Json

ACTIONS = (
    Action(0, "exec", {"cmd": ["hang"]}),
    Action(0, "remove", {"kind": "Secret", "name": "s"}),
    Action(0, "logs", {}),
    Action(0, "patch", {"body": {}}),
)


def test_what_asks_and_what_changes_keep_their_order_and_their_numbers() -> None:
    assert [[(number, action.verb) for number, action in lane] for lane in lanes(ACTIONS)] == [
        [(0, "exec"), (2, "logs")],
        [(1, "remove"), (3, "patch")],
    ]


async def test_a_command_that_hangs_puts_off_no_change(monkeypatch: Any) -> None:
    changed, order = asyncio.Event(), []

    async def perform(_: Actor, action: Action) -> Json:
        if action.verb == "exec":
            await changed.wait()
        order.append(action.verb)
        if action.verb == "patch":
            changed.set()
        return {}

    monkeypatch.setattr(Actor, "perform", perform)
    nothing: Any = None
    case = Case("c", {"metadata": {"name": "x"}, "spec": {}}, actions=ACTIONS)
    twin = Twin(nothing, nothing, case, History("diff-v-00", "nodeless"))
    async with asyncio.timeout(30):
        await asyncio.gather(*(twin._act_in_turn(lane, 0.0) for lane in lanes(case.actions)))
    assert order == ["remove", "patch", "exec", "logs"]
    assert list(twin.history.answers) == ["1 remove", "3 patch", "0 exec", "2 logs"]


@pytest.mark.parametrize(
    ("given", "wanted", "read"),
    [(b"a\nb\nc\n", 2, b"a\nb\n"), (b"a\n", 2, b"a\n"), (b"a\nb", 2, b"a\nb"), (b"", 1, b"")],
)
async def test_an_attach_waits_for_its_lines_or_the_end(given: bytes, wanted: int, read: bytes) -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(given)
    stream.feed_eof()
    assert await read_lines(stream, wanted) == read


async def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"head ")
    asyncio.get_running_loop().call_soon(stream.feed_data, b"body")
    asyncio.get_running_loop().call_soon(stream.feed_eof)
    assert await read_all(stream) == b"head body"


def test_a_pod_is_chosen_a_node_by_its_label_or_bound_to_it_with_its_own_tolerations_only() -> None:
    pod = {"metadata": {"name": "x"}, "spec": {"tolerations": [{"key": "own"}]}}
    scheduled = prepare_pod(Case("c", pod), "n")["spec"]
    assert "nodeName" not in scheduled and {"operator": "Exists"} in scheduled["tolerations"]
    bound = prepare_pod(Case("c", pod, bound=True), "n")["spec"]
    assert bound["nodeName"] == "n" and bound["tolerations"] == [{"key": "own"}]


class Nodes:
    """One Node whose first PUT comes too late."""

    def __init__(self, *taints: Json, conflicts: int = 1) -> None:
        self.node: Json = {"spec": {"taints": list(taints)}} if taints else {"spec": {}}
        self.conflicts = conflicts

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        assert path == "/api/v1/nodes/n"
        if method == "PUT" and self.conflicts:
            self.conflicts -= 1
            return Answer(409, '{"message": "conflict"}')
        self.node = body if method == "PUT" else self.node
        return SimpleNamespace(ok=True, json={"spec": dict(self.node["spec"])})


async def test_the_taint_of_the_tester_comes_once_and_goes_alone() -> None:
    other = {"key": "virtual-kubelet.io/provider", "effect": "NoSchedule"}
    nodes: Any = Nodes(other)
    await add_taint(nodes, "n")
    await add_taint(nodes, "n")
    assert nodes.node["spec"]["taints"] == [other, TAINT] and TAINT["key"] == KEY
    await remove_taint(nodes, "n")
    assert nodes.node["spec"]["taints"] == [other]
    broken: Any = Nodes(conflicts=99)
    with pytest.raises(ClusterError, match="conflict"):
        await add_taint(broken, "n")


async def test_a_command_with_a_terminal_has_one(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\ntest -t 0 && test -t 1 && test -t 2 && echo terminal\necho "$6 $7" >&2\nexit 7\n')
    kubectl.chmod(0o755)
    plane: Any = SimpleNamespace(
        binaries={"kubectl": kubectl}, kubeconfig="k", state=SimpleNamespace(root=tmp_path / "root")
    )
    nothing: Any = None
    actor = Actor(nothing, plane, "ns", "x")
    answer = await actor.perform(Action(0, "exec", {"cmd": ["true"], "tty": True}))
    assert answer == {"code": 7, "stdout": "terminal\r\n-t --\r\n"}


@pytest.mark.parametrize(("lasts_s", "ended"), [(0.0, True), (30.0, False)])
async def test_a_log_is_followed_until_its_end_or_for_a_while(lasts_s: float, ended: bool) -> None:
    async def log(request: web.Request) -> web.StreamResponse:
        assert request.query["follow"] == "true"
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"one\n")
        await asyncio.sleep(lasts_s)
        return answer

    application = web.Application()
    application.router.add_get("/log", log)
    nothing: Any = None
    api = Api(nothing)
    async with TestServer(application) as server, aiohttp.ClientSession(str(server.make_url(""))) as session:
        api._session = session
        answer, is_over = await api.read_for("/log", {"follow": "true"}, 0.5)
    assert (answer.status, answer.text, is_over) == (200, "one\n", ended)
