"""What is said of a pod's connections is what the kernel does with them: the compiled tables of Services and policies,
applied to the network namespace between the pod and the others.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator

import pytest

from tests.integration.serviceproxy.bed import Bed, remove_abandoned
from tests.integration.serviceproxy.clients import Attempt
from tests.policy_worlds import PEERS4, SUBJECT, SUBJECT4, generate_history
from tests.policy_worlds import World as PolicyWorld
from tests.service_objects import NODE, NODE4, make_endpoint, make_port, make_service, make_slice
from tests.unit.explaining.rig import World
from vk_provider.jsontypes import Json
from vk_provider.netpolicy.nft import render_pod
from vk_provider.netpolicy.nft import render_table as render_policies
from vk_provider.serviceproxy.nft import REMOVE, Vantage, render_table

pytestmark = pytest.mark.real

SEEDS = int(os.environ.get("VK_EXPLAIN_SEEDS", "4"))
TRIES, TRIES_REFUSED = 12, 2
"""Each may go to another endpoint. The kernel sends few refusals (ICMP errors) to one address in a second."""
PATIENCE_S = (0.4, 2.0, 5.0)
KINDS = {"connects": {"answered"}, "refused": {"refused"}, "dropped": {"dropped"}, "sometimes": {"answered", "dropped"}}


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    remove_abandoned()
    with Bed() as made:
        yield made


def build(policies: PolicyWorld, *objects: Json) -> World:
    """The subject alone is on an instance of ours: what other pods' policies say is not enforced in a bed."""
    world = World()
    for name, labels in policies.namespaces.items():
        world.index.apply_namespace(name, labels)
    world.add_pod(policies.pods[SUBJECT], "10.255.9.9")
    for uid, pod in policies.pods.items():
        if uid != SUBJECT:
            world.add_foreign(pod)
    world.apply(*policies.policies.values(), *objects)
    return world


def apply(bed: Bed, world: World) -> None:
    vantage = Vantage((SUBJECT4,), (NODE4,))
    bed.nft(REMOVE + render_table(world.services.table(world.zone), vantage))
    bed.nft(render_policies(world.index.table(SUBJECT)) + render_pod([SUBJECT4]))


def make_services(chance: random.Random) -> tuple[list[Json], list[tuple[str, str, int]]]:
    """The objects, and (TARGET, what it really is, its port)."""
    ready = [address for address in PEERS4 if chance.random() < 0.5]
    ports = [make_port(80, name="http", node_port=30080)]
    slice_ports = [{"name": "http", "protocol": "TCP", "port": chance.choice((8080, 8081))}]
    objects = [
        make_service("a/web", "10.96.0.2", ports=ports, type="NodePort"),
        make_slice("a/web", *(make_endpoint(item, NODE, item in ready) for item in PEERS4), ports=slice_ports),
        make_service("a/none", "10.96.0.3"),
        make_service("a/near", "10.96.0.4", internalTrafficPolicy="Local"),
        make_slice("a/near", make_endpoint(PEERS4[2], "n2")),
    ]
    targets = [
        ("web", "10.96.0.2", 80),
        ("web:81", "10.96.0.2", 81),
        ("none", "10.96.0.3", 80),
        ("near", "10.96.0.4", 80),
        (f"{NODE4}:30080", NODE4, 30080),
        ("10.96.77.77:80", "10.96.77.77", 80),
        *((f"{address}:8080", address, 8080) for address in PEERS4),
    ]
    return objects, targets


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_said_is_what_the_kernel_does(bed: Bed, seed: int) -> None:
    chance = random.Random(seed)
    for policies in generate_history(seed, 3):
        objects, targets = make_services(chance)
        world = build(policies, *objects)
        apply(bed, world)
        for written, address, port in targets:
            said = asyncio.run(world.explain(SUBJECT, written))["verdict"]
            wanted = KINDS[said["outcome"]]
            tries = TRIES_REFUSED if said["outcome"] == "refused" else TRIES
            seen: set[str] = set()
            for wait_s in PATIENCE_S:
                answers = bed.connect([Attempt(SUBJECT4, "TCP", address, port)] * tries, wait_s)
                seen = {answer.kind for answer in answers}
                if seen <= wanted:
                    break
            assert seen <= wanted, (written, said, seen, policies)
