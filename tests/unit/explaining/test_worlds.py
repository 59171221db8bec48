"""Over random policies and Services the verdict is what plain evaluators say of each endpoint."""

from __future__ import annotations

import random

import pytest

from tests.policy_words import allows
from tests.policy_worlds import PEERS4, SUBJECT, SUBJECT4, generate_history
from tests.policy_worlds import World as PolicyWorld
from tests.service_objects import NODE, NODE4, make_endpoint, make_port, make_service, make_slice
from tests.unit.explaining.rig import World
from vk_provider.jsontypes import Json

OWN = "172.16.9.9"
"""Of the subject's instance: what masqueraded connections come from."""


def build(policies: PolicyWorld, *objects: Json) -> World:
    """All pods are this provider's."""
    world = World()
    for name, labels in policies.namespaces.items():
        world.index.apply_namespace(name, labels)
    for uid, pod in policies.pods.items():
        world.add_pod(pod, OWN if uid == SUBJECT else "")
    world.apply(*policies.policies.values(), *objects)
    return world


def is_open(policies: PolicyWorld, source: str, address: str, protocol: str, port: int, seen_as: str) -> bool:
    """Both ends, by the API's words. A pod in the host's network has its instance's address here, which nobody's
    ingress policies are about."""
    if address == SUBJECT4:
        return True  # itself
    if not allows(policies, source, "egress", address, protocol, port):
        return False
    for uid, pod in policies.pods.items():
        if address == pod["status"]["podIP"] and pod["status"]["phase"] == "Running" and not is_host(pod):
            return allows(policies, uid, "ingress", seen_as, protocol, port)
    return True


def is_host(pod: Json) -> bool:
    return bool(pod["spec"].get("hostNetwork"))


@pytest.mark.parametrize("seed", range(30))
async def test_the_verdict_is_that_of_plain_evaluators(seed: int) -> None:
    chance = random.Random(seed)
    tried = 0
    for policies in generate_history(seed, 4):
        endpoints = chance.sample([*PEERS4, SUBJECT4], chance.randint(0, 4))
        ready = {address: chance.random() < 0.8 for address in endpoints}
        protocol, target = chance.choice(("TCP", "TCP", "UDP")), chance.choice((8080, 8081))
        port = make_port(80, protocol, node_port=30080)
        external = chance.random() < 0.3
        kind = {"type": "NodePort"} if external else {}
        world = build(
            policies,
            make_service("a/web", "10.96.0.2", ports=[port], **kind),
            make_slice(
                "a/web",
                *(make_endpoint(address, NODE, ready=is_ready) for address, is_ready in ready.items()),
                ports=[{"name": "", "protocol": protocol, "port": target}],
            ),
        )
        written = f"{NODE4}:30080" if external else "web"
        explanation = await world.explain(SUBJECT, written, protocol)
        used = sorted(address for address in endpoints if ready[address])
        seen_as = OWN if external else SUBJECT4
        wanted = [is_open(policies, SUBJECT, address, protocol, target, seen_as) for address in used]
        outcome = (
            "connects" if wanted and all(wanted) else "sometimes" if any(wanted) else "dropped" if used else "refused"
        )
        assert explanation["verdict"]["outcome"] == outcome, (policies, explanation)
        assert explanation["verdict"]["connects"] == (outcome == "connects")
        assert sorted(row["address"] for row in explanation["endpoints"] if row["used"]) == used
        assert len(explanation["endpoints"]) == len(endpoints)
        tried += 1
        for address in PEERS4:
            direct = await world.explain(SUBJECT, f"{address}:{target}", protocol)
            said = is_open(policies, SUBJECT, address, protocol, target, SUBJECT4)
            assert direct["verdict"]["outcome"] == ("connects" if said else "dropped"), (address, direct)
            for policy in direct["policies"]:
                assert bool(policy["rule"]) == bool(policy["allowed"] and policy["isolatedBy"]), policy
    assert tried == 4
