"""What is remembered of instances that fetch from each other, and for how long."""

from __future__ import annotations

import pytest

from vk_provider.peering import reputation
from vk_provider.peering.reputation import FORGIVEN_S, MAX_FAULTS, Reputation


def test_leases_that_ended_late_are_forgiven_after_a_while() -> None:
    book = Reputation()
    for number in range(3 * MAX_FAULTS):
        book.note_late("slow", float(number))
    assert not book.may_lease("slow", 10.0) and book.may_lease("other", 10.0)
    assert book.may_lease("slow", FORGIVEN_S + 3 * MAX_FAULTS)
    for _ in range(MAX_FAULTS):
        assert book.may_lease("slow", 2 * FORGIVEN_S)
        book.note_late("slow", 2 * FORGIVEN_S)
    assert not book.may_lease("slow", 2 * FORGIVEN_S + 1)


def test_accusations_are_forgiven_too() -> None:
    book = Reputation()
    for number in range(MAX_FAULTS):
        assert book.accuse(f"accuser-{number}", "slow", 0.0)
    assert book.is_faulty("slow", 1.0) and not book.is_faulty("slow", FORGIVEN_S)
    for number in range(MAX_FAULTS):
        assert book.accuse("angry", f"accused-{number}", 0.0)
    assert not book.accuse("angry", "another", 1.0) and book.accuse("angry", "another", FORGIVEN_S)


def test_what_was_noted_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reputation, "MAX_MEMBERS", 2)
    book = Reputation()
    for number in range(MAX_FAULTS):
        book.note_late("first", float(number))
        book.accuse(f"c{number}", "liar", float(number))
    book.note_late("second", 5.0)
    book.note_late("first", 6.0)  # the newest again
    book.note_late("third", 7.0)
    assert not book.may_lease("first", 8.0)
    book.accuse("c0", "bystander", 5.0)
    book.accuse("c0", "liar", 6.0)
    book.accuse("c1", "third", 7.0)
    assert book.is_faulty("liar", 8.0)
