"""What is said of the state of things: tables, agents, and an API server that does not answer."""

from __future__ import annotations

import asyncio

import pytest

from tests.policy_worlds import make_pod, make_policy
from tests.service_objects import make_endpoint
from tests.unit.explaining.rig import World
from tests.unit.explaining.saying import CLIENT, SERVER, WEB, rows, verdict, web_slice
from vk_provider.errors import KubeApiError
from vk_provider.explain.target import QuestionError
from vk_provider.explaining.explainer import AT_ONCE, NetExplainer
from vk_provider.jsontypes import Json


async def test_the_state_of_the_tables_is_told_and_one_that_is_behind_is_noted(world: World) -> None:
    world.set_tables("client", services=("::1", "::1", 0.0), policy=("::2", "::1", 9.0))
    explanation = await world.explain("client", "pod/server:80")
    assert explanation["source"]["tables"][1] == {
        "name": "policy",
        "newest": "::2",
        "inForce": "::1",
        "behindSeconds": 9.0,
        "heldSeconds": 7.0,
    }
    assert explanation["notes"] == ["the instance acts by an earlier table of network policies, out of date for 9 s"]


@pytest.mark.parametrize("written", ["web", "10.96.0.2:80", "10.96.9.9:80", "github.com:443", "pod/server:80"])
async def test_without_a_compiled_table_it_is_not_known_whether_a_pod_connects(world: World, written: str) -> None:
    world.compiled = False
    world.apply(WEB)
    unknown = ("unknown", "the provider has not compiled a table of Services yet", "ask again in a second")
    assert await verdict(world, written) == unknown


async def test_without_compiled_policies_it_is_not_known_whether_a_pod_connects(world: World) -> None:
    world.index.forget("server")
    explanation = await world.explain("client", "pod/server:80")
    assert explanation["notes"] == ["the policies of pod a/server are not compiled yet: nothing is known of them"]
    unknown = ("unknown", "the policies of pod a/server are not compiled yet", "ask again in a second")
    assert await verdict(world, "pod/server:80") == unknown
    world.apply(make_policy("out", selector={"matchLabels": {"app": "client"}}, policyTypes=["Egress"]))
    assert (await verdict(world, "pod/server:80"))[0] == "dropped"
    world.index.forget("client")
    for written in ("www.example.com:443", "192.0.2.1:443"):
        assert (await verdict(world, written))[1] == "the policies of pod a/client are not compiled yet"
    assert (await verdict(world, "pod/server:80"))[1].endswith("not compiled yet (and of 1 other pod)")


async def test_what_is_not_known_of_the_pods_of_dns_makes_no_verdict_unknown(world: World) -> None:
    world.add_pod(make_pod("dns", "kube-system", {}, "10.1.0.53"))
    world.index.forget("dns")
    world.apply(WEB, web_slice(make_endpoint(SERVER)))
    assert (await verdict(world, "web"))[0] == "connects"


async def test_what_the_api_shows_and_the_table_does_not_have_yet_is_told(world: World) -> None:
    world.apply(WEB, web_slice(make_endpoint(SERVER)))
    world.objects.append(web_slice(make_endpoint(SERVER), make_endpoint("10.1.0.3")))
    explanation = await world.explain("client", "web")
    assert rows(explanation)[1] == ("10.1.0.3", False, "not in the compiled table yet")
    world.objects.append(web_slice(make_endpoint("10.1.0.3")))
    explanation = await world.explain("client", "web")
    assert (SERVER, True, "in the compiled table") in rows(explanation)
    assert any("does not show any more" in note for note in explanation["notes"])


async def test_the_kernels_words_are_told(world: World) -> None:
    world.apply(WEB, web_slice(make_endpoint(SERVER)))
    world.apply(make_policy("in", selector={"matchLabels": {"app": "server"}}))
    one = {"protocol": "TCP", "source": CLIENT, "sourcePort": 1, "endpoint": SERVER, "endpointPort": 8080}
    listed = [one | {"port": 80, "answered": True}, one | {"port": 80, "answered": False}]
    listed += [one | {"port": 81, "answered": True}, one | {"port": 80, "answered": True, "protocol": "UDP"}]
    world.answers["client"] = lambda _: {"tables": {}, "connections": listed, "drops": {"egress": 0, "ingress": 3}}
    world.answers["server"] = lambda _: {"tables": {}, "drops": {"ingress": 12, "egress": 0}}
    explanation = await world.explain("client", "web")
    assert explanation["seen"] == {"connections": 2, "answered": 1, "byEndpoint": {f"{SERVER}:8080": 2}}
    assert [(item["direction"], item["drops"]) for item in explanation["policies"]] == [
        ("egress", None),
        ("ingress", 12),
    ]
    assert world.asked == [("client", "10.96.0.2"), ("server", "")]


async def test_an_answer_comes_without_the_agent_too(world: World) -> None:
    world.answers["client"] = lambda _: b"unreachable"
    explanation = await world.explain("client", "pod/server:80")
    assert explanation["verdict"]["connects"] and "seen" not in explanation
    assert explanation["source"]["agent"] == "no route to host"
    assert explanation["notes"] == [
        "no route to host: what is said here is what was compiled for it, not what its kernel has"
    ]
    owned = world.records["client"].owned
    assert owned is not None
    owned.link.session = None
    assert "has no session" in (await world.explain("client", "pod/server:80"))["source"]["agent"]


HOSTILE = [
    b"",
    b"{",
    b"[" * 100_000,
    b"\xff\xfe",
    b"null",
    b'{"tables": []}',
    b'{"tables": {"services": {"revision": "\\u001b[2J", "error": "", "waiting": 0, "counts": {}}}}',
    b'{"tables": {}, "connections": [{"protocol": "\\u001b]0;x\\u0007"}]}',
    b'{"tables": {}, "drops": {"egress": 1e400}}',
    b'{"tables": {}, "drops": {"egress": -1}}',
    b'{"tables": {}, "connections": ' + b"[" + b",".join([b"{}"] * 2000) + b"]}",
    b'{"tables": {}, "x": "' + b"x" * 1_000_000 + b'"}',
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
async def test_an_agent_that_says_what_it_may_not_is_silent(world: World, body: bytes) -> None:
    world.answers["client"] = lambda _: body
    explanation = await world.explain("client", "pod/server:80")
    assert explanation["verdict"]["connects"] and "seen" not in explanation
    assert explanation["source"]["agent"].startswith("the pod's agent answers with what it may not say (")
    assert explanation["source"]["agent"].isprintable()


async def test_the_words_of_an_agents_error_are_one_line(world: World) -> None:
    info = {"revision": "", "error": "bad\n\x1b[2Jthing" + "x" * 900, "waiting": 0, "counts": {}}
    world.answers["client"] = lambda _: {"tables": {"services": info}}
    (note,) = (await world.explain("client", "pod/server:80"))["notes"]
    assert note.isprintable() and "bad??[2Jthing" in note and len(note) < 300


async def test_an_api_server_that_does_not_answer_is_an_error_of_the_question(world: World) -> None:
    world.api_error = KubeApiError(0, "Timeout", "no answer within 10 s")
    with pytest.raises(KubeApiError):
        await world.explain("client", "web")
    assert (await world.explain("client", "pod/server:80"))["verdict"]["connects"]


async def test_a_question_comes_to_an_end_in_its_time_and_so_does_waiting_for_a_turn(world: World) -> None:
    never = asyncio.Event()

    async def get(path: str, query: object = None, timeout_s: float = 30) -> Json:
        await never.wait()
        return {}

    world.get = get
    world.explainer = NetExplainer(world.sources, limit_s=0.5)
    asked = [asyncio.create_task(world.explain("client", "web")) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    world.explainer._limit_s = 0.01  # of one that would be answered at once, were it its turn
    with pytest.raises(TimeoutError):
        await world.explain("client", "pod/server:80")
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(item) for item in found] == [TimeoutError] * AT_ONCE
    assert (await NetExplainer(world.sources).explain("client", "pod/server:80", ""))["verdict"]["connects"]


async def test_a_pod_that_is_gone_is_a_bad_question(world: World) -> None:
    with pytest.raises(QuestionError, match="the pod is gone"):
        await world.explain("nobody", "web")
