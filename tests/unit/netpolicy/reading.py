"""Reads a compiled table as the rules of the frame do, and keeps an index up with a world."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tests.policy_worlds import SUBJECT, World, make_pod
from vk_provider.jsontypes import Json
from vk_provider.netpolicy.index import PolicyIndex
from vk_provider.netpolicy.table import Table

NUMBERS = {"ICMP": 1, "TCP": 6, "UDP": 17, "SCTP": 132}


def accepts(table: Table, direction: str, address: str, protocol: str = "TCP", port: int = 0) -> bool:
    """AssertionError when two ranges say something about the address."""
    family = 6 if ":" in address else 4
    verdicts = [table.verdicts.get((f"{direction}-peers{family}", address), "")]
    spans = [
        verdict
        for (container, key), verdict in table.verdicts.items()
        if container == f"{direction}-ranges{family}" and _is_inside(address, key.removesuffix(" . 0-255"))
    ]
    assert len(spans) <= 1, spans
    return any(_accepts(table, verdict, NUMBERS[protocol], port) for verdict in (*verdicts, *spans))


def _accepts(table: Table, verdict: str, protocol: int, port: int) -> bool:
    if verdict in ("", "accept"):
        return verdict == "accept"
    ports = table.chains[verdict.removeprefix("jump ")]
    return any(part.protocol == protocol and part.first <= port <= part.last for part in ports)


def _is_inside(address: str, span: str) -> bool:
    wanted = ipaddress.ip_address(address)
    first, dash, last = span.partition("-")
    if dash:
        return int(ipaddress.ip_address(first)) <= int(wanted) <= int(ipaddress.ip_address(last))
    return wanted in ipaddress.ip_network(span)


class IndexedWorld:
    """A PolicyIndex that is told what differs from the world before."""

    def __init__(self) -> None:
        self.index = PolicyIndex()
        self._world = World()

    def set(self, world: World) -> Table:
        """The subject's table then."""
        before, index = self._world, self.index
        for name in before.namespaces.keys() - world.namespaces.keys():
            index.remove_namespace(name)
        for uid in before.pods.keys() - world.pods.keys():
            index.remove_pod(uid)
        for key in before.policies.keys() - world.policies.keys():
            index.remove_policy(*key.split("/"))
        for uid, pod in world.pods.items():
            if before.pods.get(uid) != pod:
                index.apply_pod(uid, pod)
        index.follow(SUBJECT, world.pods[SUBJECT])
        for key, policy in world.policies.items():
            if before.policies.get(key) != policy:
                index.apply_policy(policy)
        for name, labels in world.namespaces.items():
            if before.namespaces.get(name) != labels:
                index.apply_namespace(name, labels)
        self._world = world.copy()
        return index.table(SUBJECT)


def compile_for(
    subject: Json,
    policies: Iterable[Json],
    pods: Iterable[Json] = (),
    namespaces: dict[str, dict[str, str]] | None = None,
) -> Table:
    world = World(namespaces or {})
    world.pods = {SUBJECT: subject, **{pod["metadata"]["uid"]: pod for pod in pods}}
    world.policies = {f"{item['metadata']['namespace']}/{item['metadata']['name']}": item for item in policies}
    return IndexedWorld().set(world)


def make_subject(**more: object) -> Json:
    return make_pod(SUBJECT, "a", {"app": "web"}, "10.1.0.1", "fd00:1::1", **more)
