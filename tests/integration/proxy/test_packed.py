"""Packed elements in the real kernel: the table that they make is the one that the text makes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.proxy.kept import Compiled, Kept
from tests.integration.proxy.test_keeper import FIRST, SECOND, SERVICE, endpoints
from tests.service_history import generate_history
from tests.service_objects import make_service, make_slice
from vk_provider.agent.proxy import writer
from vk_provider.aiokit.netlink import Message
from vk_provider.aiokit.nfbatch import BatchSocket
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real
LANES = 12


def make_objects(seed: int) -> list[Json]:
    """A cluster with every kind of Service."""
    states = [list(generate_history(seed, lane, 3))[-1] for lane in range(LANES)]
    found = [item for services, slices in states for item in (*services.values(), *slices.values())]
    random.Random(seed).shuffle(found)
    return found


def read_table(kept: Kept) -> list[str]:
    """All objects of the table in force, without handles; elements and objects in one order."""
    name = kept.keeper.in_force("services").name
    listed = json.loads(kept.bed.run_node("nft", "-j", "list", "table", "inet", name))["nftables"]
    return sorted(json.dumps(_clean(item, name), sort_keys=True) for item in listed if "metainfo" not in item)


def _clean(item: Any, name: str) -> Any:
    if isinstance(item, dict):
        cleaned = {key: _clean(value, name) for key, value in item.items() if key != "handle"}
        if "elem" in cleaned:
            cleaned["elem"] = sorted(json.dumps(each, sort_keys=True) for each in cleaned["elem"])
        return cleaned
    if isinstance(item, list):
        return [_clean(each, name) for each in item]
    return "T" if item == name else item


def start_over(kept: Kept) -> None:
    kept.bed.nft("flush ruleset\n")
    kept.restart(lose_copies=True)


@pytest.mark.parametrize("seed", range(4))
def test_the_kernel_has_the_same_table_by_either_way_and_so_it_has_after_a_difference(
    kept: Kept, compiled: Compiled, seed: int
) -> None:
    objects = make_objects(seed)
    kept.apply(compiled.whole(*objects))
    as_text = read_table(kept)
    start_over(kept)
    message = compiled.packed()
    kept.apply(message)
    assert len(message["text"]) < len(compiled.whole()["text"]) and read_table(kept) == as_text
    assert len(as_text) > 100 and sum(len(line) for line in as_text) > 20_000
    other = generate_history(seed + 100, 3, 1)
    services, slices = next(other)
    kept.apply(compiled.change(*services.values(), *slices.values()))
    by_difference = read_table(kept)
    start_over(kept)
    kept.apply(compiled.whole())
    # A chain that nothing leads to any more may be left over by a difference.
    elements = [[line for line in table if '"elem"' in line] for table in (by_difference, read_table(kept))]
    assert elements[0] == elements[1]


def test_a_table_that_is_there_keeps_its_name_and_the_clients_that_it_remembers(kept: Kept, compiled: Compiled) -> None:
    service = make_service("a", "10.96.0.2", sessionAffinity="ClientIP")
    kept.apply(compiled.whole(service, make_slice("a", FIRST, SECOND)))
    name, chosen = kept.keeper.in_force("services").name, endpoints(kept)
    assert len(chosen) == 1
    kept.apply(compiled.packed(make_service("b", "10.96.0.3")))
    assert kept.keeper.in_force("services").name == name and endpoints(kept) == chosen
    assert "elements" in kept.bed.run_node("nft", "list", "map", "inet", name, "affinity-clients4")


def test_the_next_agent_mends_it(kept: Kept, compiled: Compiled) -> None:
    kept.apply(compiled.packed(*make_objects(7)))
    kept.apply(compiled.change(SERVICE, make_slice("a", FIRST)))
    before = read_table(kept)
    kept.restart()
    kept.bed.nft(f"flush map inet {kept.keeper.in_force('services').name} endpoints4\n")
    kept.wait(lambda: kept.count("mended") or kept.count("reapplied"))
    assert read_table(kept) == before


class Refusing(BatchSocket):
    """Takes one transaction of a few messages and refuses the next."""

    def __init__(self, subsystem: int) -> None:
        super().__init__(subsystem)
        self.capacity = 200
        self._taken = 0

    def commit(self, messages: Any) -> None:
        self._taken += 1
        if self._taken > 1:
            raise PermissionError(1, "Operation not permitted")
        super().commit(messages)

    def group(self, messages: Any) -> Iterator[list[Message]]:
        groups = list(super().group(messages))
        assert len(groups) > 2
        yield from groups


def test_what_the_kernel_refuses_in_this_form_goes_to_nft_as_text(
    kept: Kept, compiled: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.apply(compiled.whole(*make_objects(8)))
    as_text = read_table(kept)
    start_over(kept)
    monkeypatch.setattr(writer, "BatchSocket", Refusing)
    kept.apply(compiled.packed())
    assert read_table(kept) == as_text


def test_what_is_no_table_changes_nothing(kept: Kept, compiled: Compiled) -> None:
    message = compiled.packed(SERVICE, make_slice("a", FIRST))
    told = kept.refuse({**message, "packed": message["packed"][:-8]})
    assert told["tables"]["services"] == "" and "packed elements" in told["error"]
    assert "table inet vk-services" not in kept.bed.run_node("nft", "list", "tables")
