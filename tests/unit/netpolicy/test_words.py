"""Compiled tables say what the API's words say, over random policies, pods and changes."""

from __future__ import annotations

import random

import pytest

from tests.policy_words import allows
from tests.policy_worlds import CLIENTS, PEERS4, PEERS6, SUBJECT, World, generate_history
from tests.service_objects import NODE4, NODE6
from tests.unit.netpolicy.reading import IndexedWorld, accepts
from vk_provider.netpolicy.table import Table, diff_tables

ADDRESSES = [*PEERS4, *PEERS6, *CLIENTS, NODE4, NODE6, "0.0.0.0", "255.255.255.255", "::", "10.1.127.255", "fd00:2::"]


def differences(world: World, table: Table) -> list[str]:
    found = []
    for direction in ("ingress", "egress"):
        for address in ADDRESSES:
            for protocol in ("TCP", "UDP", "SCTP"):
                for port in (8079, 8080, 8081, 8082):
                    wanted = allows(world, SUBJECT, direction, address, protocol, port)
                    if accepts(table, direction, address, protocol, port) != wanted:
                        found.append(f"{direction} {address} {protocol} {port}: {'allowed' if wanted else 'denied'}")
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_table_says_what_the_policies_say_after_every_change(seed: int) -> None:
    indexed = IndexedWorld()
    before: Table | None = None
    for world in generate_history(seed, 8):
        table = indexed.set(world)
        assert differences(world, table) == [], world
        fresh = IndexedWorld().set(world)
        assert (fresh.revision, fresh.verdicts, fresh.chains) == (table.revision, table.verdicts, table.chains)
        if before is not None:
            delta = diff_tables(before, table)
            made = dict(before.verdicts)
            for element in delta.removed:
                assert made.pop((element.container, element.key)) == element.value
            for element in delta.added:
                assert made.setdefault((element.container, element.key), element.value) == element.value
            assert made == table.verdicts
            assert {**before.chains, **delta.chains}.keys() - delta.gone == table.chains.keys()
        before = table


def test_the_order_of_objects_makes_no_difference() -> None:
    chance = random.Random(7)
    for seed in range(20):
        (world,) = generate_history(1000 + seed, 1)
        other = World(
            dict(chance.sample(list(world.namespaces.items()), len(world.namespaces))),
            dict(chance.sample(list(world.pods.items()), len(world.pods))),
            dict(chance.sample(list(world.policies.items()), len(world.policies))),
        )
        assert IndexedWorld().set(world).revision == IndexedWorld().set(other).revision
