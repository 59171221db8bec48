"""Which table of network policies a pod's instance is sent, when, and what is watched for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from prometheus_client import CollectorRegistry

from tests.policy_worlds import make_pod, make_policy
from tests.unit.kube.fakeclient import settle
from tests.unit.routing.fakecluster import FakeCluster
from vk_provider.jsontypes import Json
from vk_provider.kube.paths import NAMESPACES, NETWORK_POLICIES, PODS
from vk_provider.netpolicy.judgement import Connection
from vk_provider.netpolicy.peer import trim_pod
from vk_provider.routing import clusterwatch, policies
from vk_provider.routing.policies import PolicyRouting
from vk_provider.routing.policytables import PolicyTables

FROM_DB = {"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}
FROM_TEAM = {"from": [{"namespaceSelector": {"matchLabels": {"team": "x"}}}]}
BLOCK = {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}


class World:
    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.now = 0.0
        self.routing = PolicyRouting(self.cluster, CollectorRegistry(), clock=lambda: self.now)

    def start(self) -> None:
        self.task = asyncio.create_task(self.routing.run())

    def start_pod(self, name: str = "web", namespace: str = "a", **more: object) -> PolicyTables:
        pod = make_pod(name, namespace, {"app": name}, "10.0.0.1", **more)
        self.routing.on_pod("ADDED", pod)
        return self.routing.source(name, ("10.0.0.1",))

    def set_peer(self, name: str, ip: str, **more: object) -> None:
        self.cluster.set(PODS, make_pod(name, "a", {"app": name}, ip, **more))

    def set_policy(self, name: str, **spec: object) -> Json:
        policy = make_policy(name, **spec)
        self.cluster.set(NETWORK_POLICIES, policy)
        return policy

    def watches(self, path: str) -> int:
        return len(self.cluster.watching.get(path, []))


@pytest.fixture
async def idle(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Not running before `start`."""
    monkeypatch.setattr(policies, "SETTLE_S", 0.0)
    monkeypatch.setattr(policies, "MIN_INTERVAL_S", 0.0)
    made = World()
    yield made
    made.task.cancel()
    await asyncio.wait({made.task})
    assert made.task.cancelled()


@pytest.fixture
async def world(idle: World) -> World:
    idle.start()
    await settle()
    return idle


async def read(source: PolicyTables, base: str = "") -> Json:
    text = await source.text_from(base)
    assert text is not None
    message: Json = orjson.loads(text.frame)
    assert (message["type"], message["name"], message["base"]) == ("table", "policy", text.base)
    assert message["revision"] == text.revision == source.revision
    return message


async def test_a_pod_that_nothing_selects_has_an_open_table_at_once_and_nothing_is_watched_for_it(world: World) -> None:
    world.set_policy("other", selector={"matchLabels": {"app": "db"}}, ingress=[FROM_DB])
    await settle()
    source = world.start_pod()
    assert source.revision  # before anything else runs
    message = await read(source)
    assert "0.0.0.0/0 . 0-255 : accept" in message["text"] and "::/0 . 0-255 : accept" in message["text"]
    assert "add element inet vk-policy pods4 { 10.0.0.1 }" in message["text"]
    await settle()
    assert world.cluster.lists == [NETWORK_POLICIES]


async def test_no_table_is_sent_before_the_policies_are_known(idle: World) -> None:
    listed = idle.cluster.hold(NETWORK_POLICIES)
    idle.set_policy("deny")
    idle.start()
    source = idle.start_pod()
    await settle()
    assert source.revision == ""
    listed.set()
    await settle()
    assert "ingress-ranges4 {" not in (await read(source))["text"].partition("add element")[2]


async def test_the_first_table_waits_for_the_peers_that_it_names(world: World) -> None:
    world.set_policy("in", ingress=[FROM_DB])
    world.set_peer("db", "10.0.0.7")
    listed = world.cluster.hold(PODS)
    await settle()
    source = world.start_pod()
    await settle()
    assert source.revision == ""
    listed.set()
    await settle()
    assert "ingress-peers4 { 10.0.0.7 : accept }" in (await read(source))["text"]
    assert world.watches(PODS) == 1 and world.watches(NAMESPACES) == 0


async def test_what_is_to_be_judged_is_compiled_in_turns(world: World) -> None:
    world.set_policy("in", ingress=[FROM_DB])
    world.start_pod()
    await settle()
    for number in range(1000):
        pod = make_pod(f"db{number}", "a", {"app": "db"}, f"10.2.{number // 250}.{number % 250}")
        world.routing._on_peer("ADDED", pod)  # all of them before anybody else's turn
    settling, turns = asyncio.create_task(world.routing.settle()), 0
    while not settling.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 5  # the routing's own task may do a part of it
    said = world.routing.judge("web", Connection("ingress", "10.2.3.249", 6, 80))
    assert said is not None and said.allowed


async def test_namespaces_are_watched_for_their_selectors(world: World) -> None:
    world.set_policy("in", ingress=[FROM_TEAM])
    world.cluster.set(PODS, make_pod("far", "b", {}, "10.0.0.9"))
    world.cluster.set(NAMESPACES, {"metadata": {"name": "b", "uid": "b", "labels": {"team": "x"}}})
    listed = world.cluster.hold(NAMESPACES)
    await settle()
    source = world.start_pod()
    await settle()
    assert source.revision == ""
    listed.set()
    await settle()
    assert "10.0.0.9 : accept" in (await read(source))["text"]
    known = source.revision
    world.cluster.set(NAMESPACES, {"metadata": {"name": "b", "uid": "b", "labels": {}}})
    await settle()
    message = await read(source, known)
    assert message["base"] == known and "delete element inet vk-policy ingress-peers4 { 10.0.0.9 }" in message["text"]


async def test_a_table_that_is_in_force_stays_until_a_new_policys_peers_are_known(world: World) -> None:
    world.set_policy("in", ingress=[BLOCK])
    await settle()
    source = world.start_pod()
    known = source.revision
    listed = world.cluster.hold(PODS)
    world.set_peer("db", "10.0.0.7")
    world.set_policy("in", ingress=[FROM_DB])
    await settle()
    assert source.revision == known
    listed.set()
    await settle()
    message = await read(source, known)
    assert message["base"] == known
    assert "add element inet vk-policy ingress-peers4 { 10.0.0.7 : accept }" in message["text"]


async def test_peers_that_come_and_go_are_differences_and_followers_are_told(world: World) -> None:
    world.set_policy("in", ingress=[FROM_DB])
    source = world.start_pod()
    told: list[str] = []
    unfollow = source.follow(lambda: told.append(source.revision))
    await settle()
    first = source.revision
    world.set_peer("db", "10.0.0.7")
    await settle()
    second = source.revision
    world.set_peer("db", "10.0.0.7", phase="Succeeded")
    await settle()
    assert told == [first, second, first]  # the same content is the same revision
    assert (await read(source, second))["base"] == second
    unfollow()
    world.set_peer("db", "10.0.0.8")
    await settle()
    assert len(told) == 3 and source.revision != first


async def test_an_agent_that_knows_an_unknown_revision_gets_the_whole_table(world: World) -> None:
    source = world.start_pod()
    await settle()
    assert (await read(source, "::1"))["base"] == ""
    assert await source.text_from(source.revision) is None


async def test_a_later_session_of_the_pod_gets_differences_too_also_when_the_pod_has_ended(world: World) -> None:
    source = world.start_pod()
    first = source.revision
    world.set_policy("deny")
    await settle()
    world.routing.on_pod("MODIFIED", make_pod("web", "a", {"app": "web"}, "10.0.0.1", phase="Succeeded"))
    again = world.routing.source("web", ("10.0.0.1",))
    assert (await read(again, first))["base"] == first
    assert again.revision == source.revision != first


async def test_the_watch_of_the_cluster_ends_a_while_after_the_last_policy_that_needs_it(world: World) -> None:
    policy = world.set_policy("in", ingress=[FROM_DB])
    world.set_peer("db", "10.0.0.7")
    source = world.start_pod()
    await settle()
    assert world.watches(PODS) == 1
    world.cluster.remove(NETWORK_POLICIES, policy)
    await settle()
    assert world.watches(PODS) == 1
    world.now += clusterwatch.LINGER_S
    world.set_policy("else", namespace="b")  # something happens
    await settle()
    assert world.watches(PODS) == 0
    world.cluster.remove(PODS, make_pod("db", "a", {"app": "db"}, "10.0.0.7"))
    world.set_policy("in", ingress=[FROM_DB])
    await settle()
    assert world.watches(PODS) == 1
    assert "10.0.0.7" not in (await read(source))["text"]


async def test_the_labels_of_our_pod_and_of_its_policies_count_as_they_are_now(world: World) -> None:
    world.set_policy("db", selector={"matchLabels": {"app": "db"}}, ingress=[BLOCK])
    await settle()
    source = world.start_pod()
    open_revision = source.revision
    world.routing.on_pod("MODIFIED", make_pod("web", "a", {"app": "db"}, "10.0.0.1"))
    await settle()
    assert source.revision != open_revision
    assert "192.0.2.0/24 . 0-255 : accept" in (await read(source, open_revision))["text"]


async def test_a_pod_in_the_hosts_network_is_in_no_policy(world: World) -> None:
    open_revision = ""
    for host in (True, False):
        source = world.start_pod("host" if host else "other", "c", hostNetwork=host)
        await settle()
        open_revision = open_revision or source.revision
        assert source.revision == open_revision
    world.cluster.set(NETWORK_POLICIES, make_policy("deny", "c"))
    await settle()
    assert world.start_pod("host2", "c", hostNetwork=True).revision == open_revision
    assert source.revision != open_revision


async def test_a_pod_that_is_gone_costs_nothing(world: World) -> None:
    world.set_policy("in", ingress=[FROM_DB])
    world.start_pod()
    await settle()
    world.routing.on_pod("DELETED", make_pod("web", "a", {"app": "web"}, "10.0.0.1"))
    await settle()
    world.now += clusterwatch.LINGER_S
    world.set_policy("else", namespace="b")
    await settle()
    assert world.watches(PODS) == 0


def test_a_pod_of_the_cluster_is_kept_as_what_policies_need() -> None:
    pod = make_pod(
        "p", "a", {"app": "x"}, "10.0.0.1", ports=[{"name": "web", "containerPort": 80}, {"containerPort": 1}]
    )
    pod["metadata"]["annotations"] = {"large": "x" * 1000}
    pod["spec"]["containers"][0] |= {"image": "i", "env": [{"name": "E", "value": "v" * 1000}]}
    trimmed = trim_pod(pod)
    assert len(orjson.dumps(trimmed)) < 300
    assert trimmed["spec"]["containers"] == [{"ports": [{"name": "web", "containerPort": 80}]}]
