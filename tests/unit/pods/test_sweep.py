"""Which instances may be orphans at all."""

from __future__ import annotations

from vk_provider.cloud.base import TAG_NODE, Instance, InstanceState
from vk_provider.pods.sweep import select_candidates


def make_instance(name: str, node: str = "n1", age_s: float = 1000.0, state: str = "running") -> Instance:
    return Instance(name, InstanceState(state), "t", "z", "on-demand", "amd64", "", "", 10_000.0 - age_s,
                    {TAG_NODE: node})  # fmt: skip


def select(*instances: Instance, claimed: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    found = select_candidates(list(instances), set(claimed), {"n1"}, 10_000.0, 120.0)
    return [instance.instance_id for instance in found]


def test_an_old_unclaimed_instance_of_our_node_is_a_candidate() -> None:
    assert select(make_instance("i-1")) == ["i-1"]


def test_young_claimed_foreign_and_dead_instances_are_not() -> None:
    assert select(make_instance("i-1", age_s=60)) == []
    assert select(make_instance("i-1"), claimed={"i-1"}) == []
    assert select(make_instance("i-1", node="other")) == []
    assert select(make_instance("i-1", state="terminated")) == []
