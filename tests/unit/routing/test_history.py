"""Differences from any revision that is remembered lead to the newest table."""

from __future__ import annotations

import random

import pytest

from tests.unit.routing.objects import AppliedTable, endpoints, message_of, service
from vk_provider.routing.history import TableHistory
from vk_provider.routing.messages import encode_difference, encode_whole
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.table import Table


def change(index: ServiceIndex, choice: random.Random) -> None:
    number = choice.randrange(6)
    deed = choice.randrange(5)
    if deed == 0:
        index.remove_service("default", f"s{number}")
    elif deed == 1:
        index.apply_service(service(number))
    elif deed == 2:
        index.remove_slice("default", f"s{number}-x")
    else:
        index.apply_slice(endpoints(number, *(f"10.1.0.{n}" for n in range(1, 2 + choice.randrange(3)))))


@pytest.mark.parametrize("seed", range(40))
def test_a_difference_from_any_remembered_revision_makes_the_newest_table(seed: int) -> None:
    choice, index, history = random.Random(seed), ServiceIndex("n1"), TableHistory(limit=30)
    tables: dict[str, Table] = {}
    for _ in range(60):
        for _ in range(choice.randrange(1, 4)):
            change(index, choice)
        table = index.table()
        tables[table.revision] = table
        history.add(table)
        for revision, old in tables.items():
            pair = history.since(revision)
            if pair is None:
                continue
            applied = AppliedTable()
            applied.apply(message_of(encode_whole(old, ())))
            applied.apply(message_of(encode_difference(*pair)))
            assert applied.shows(table)
    assert sum(history.since(revision) is not None for revision in tables) >= 5


def test_what_is_too_old_is_forgotten_and_what_was_never_there_is_unknown() -> None:
    index, history = ServiceIndex("n1"), TableHistory(limit=3)
    revisions = []
    for number in range(6):
        index.apply_service(service(number))
        history.add(index.table())
        revisions.append(index.table().revision)
    assert [history.since(revision) is not None for revision in revisions] == [False, False, True, True, True, False]
    assert history.count_changes(revisions[2]) == 3 and history.count_changes(revisions[-1]) == 0
    assert history.since("::1") is None and history.count_changes("::1") is None
