"""1,000 instances with one new image of 1 GB: what leaves the registry, and when all have it."""

from __future__ import annotations

import pytest

from tests.unit.peering.model import Model, Network, time_without_peers

GIGABYTE = [5_000, 30_000_000, 400_000_000, 250_000_000, 120_000_000, 100_000_000, 60_000_000, 39_995_000]


def test_one_image_leaves_the_registry_for_a_thousand_instances() -> None:
    network = Network()
    outcome = Model(GIGABYTE, 1_000, 4, network).run()
    assert len(outcome.done_s) == 1_000
    assert outcome.registry_bytes == sum(GIGABYTE)
    assert outcome.peer_bytes == 999 * sum(GIGABYTE)
    assert outcome.busiest <= 4
    assert max(outcome.done_s.values()) < time_without_peers(GIGABYTE, 1_000, network) / 10


def test_the_time_grows_with_the_logarithm_of_the_instances() -> None:
    took = {count: max(Model(GIGABYTE, count, 4, Network()).run().done_s.values()) for count in (10, 100, 1_000)}
    assert took[1_000] - took[100] < 2.5 * (took[100] - took[10]) + 2.0


@pytest.mark.parametrize("uploads", [1, 2, 8])
def test_no_instance_serves_more_than_its_uploads(uploads: int) -> None:
    outcome = Model(GIGABYTE, 200, uploads, Network()).run()
    assert outcome.busiest <= uploads
    assert outcome.registry_bytes == sum(GIGABYTE)
    assert len(outcome.done_s) == 200


def test_instances_that_vanish_cost_time_and_their_clients_a_fetch_each() -> None:
    outcome = Model(GIGABYTE, 200, 4, Network(), dying=20).run()
    assert len(outcome.done_s) >= 180
    assert outcome.registry_bytes < (1 + 20 * 4) * sum(GIGABYTE)


def test_a_single_instance_is_not_kept_waiting() -> None:
    network = Network()
    outcome = Model(GIGABYTE, 1, 4, network).run()
    slowest = max(GIGABYTE) / network.connection
    assert outcome.registry_bytes == sum(GIGABYTE)
    assert max(outcome.done_s.values()) < slowest + sum(GIGABYTE) / network.connection / 2


def test_nothing_is_left_of_members_that_are_gone() -> None:
    model = Model(GIGABYTE, 50, 4, Network())
    model.run()
    for number in range(50):
        model.swarm.remove(f"i-{number}", 1e6)
    assert model.swarm.size == (0, 0, 0)
