"""Who fetches which blob from whom."""

from __future__ import annotations

import random

from vk_provider.peering.reputation import MAX_FAULTS
from vk_provider.peering.swarm import LEASE_BASE_S, REGISTRY, Answer, Blob, Swarm, Told

A: Blob = ("registry.example/app", "sha256:" + "a" * 64)
B: Blob = ("registry.example/app", "sha256:" + "b" * 64)


def wants(*blobs: Blob, fetching: tuple[Blob, ...] = (), held: tuple[Blob, ...] = ()) -> Told:
    return Told(dict.fromkeys(blobs, 0), fetching, held)


def test_the_first_goes_to_the_registry_and_the_others_wait_for_it() -> None:
    swarm = Swarm(2)
    swarm.update("one", "a", wants(A), 0)
    swarm.update("two", "a", wants(A), 0)
    assert swarm.answers("one") == {A: REGISTRY}
    assert swarm.answers("two") == {A: Answer("wait", "one")}
    swarm.update("one", "a", wants(fetching=(A,)), 1)
    assert swarm.answers("two") == {A: Answer("wait", "one")}
    swarm.update("one", "a", wants(held=(A,)), 2)
    assert swarm.answers("two") == {A: Answer("peer", "one")}


def test_each_zone_has_a_lease_of_its_own() -> None:
    swarm = Swarm(2)
    for name, zone in (("one", "a"), ("two", "b")):
        swarm.update(name, zone, wants(A), 0)
        assert swarm.answers(name) == {A: REGISTRY}


def test_a_lease_that_lasts_too_long_goes_to_the_next() -> None:
    swarm = Swarm(2)
    for name in ("one", "two", "three"):
        swarm.update(name, "a", wants(A), 0)
    swarm.take_changed()
    swarm.expire(LEASE_BASE_S - 1)
    assert swarm.take_changed() == set()
    swarm.expire(LEASE_BASE_S)
    assert swarm.take_changed() == {"two"}
    assert swarm.answers("two") == {A: REGISTRY}
    assert swarm.answers("three")[A].kind == "wait"


def test_a_lease_ends_with_its_member_or_with_its_pull() -> None:
    swarm = Swarm(2)
    for name in ("one", "two", "three"):
        swarm.update(name, "a", wants(A), 0)
    swarm.remove("one", 1)
    assert swarm.answers("two") == {A: REGISTRY}
    swarm.update("two", "a", wants(), 2)
    assert swarm.answers("three") == {A: REGISTRY}


def test_those_that_were_served_serve_others() -> None:
    swarm = Swarm(1)
    swarm.update("one", "a", wants(held=(A,)), 0)
    for name in ("two", "three", "four"):
        swarm.update(name, "a", wants(A), 0)
    assert [swarm.answers(name)[A].kind for name in ("two", "three", "four")] == ["peer", "wait", "wait"]
    swarm.update("two", "a", wants(held=(A,)), 1)
    assert {swarm.answers(name)[A].member for name in ("three", "four")} == {"one", "two"}


def test_the_uploads_of_a_member_count_over_all_blobs() -> None:
    swarm = Swarm(1)
    swarm.update("one", "a", wants(held=(A, B)), 0)
    swarm.update("two", "a", wants(A), 0)
    swarm.update("three", "a", wants(B), 0)
    assert swarm.answers("three")[B].kind == "wait"
    swarm.update("two", "a", wants(), 1)
    assert swarm.answers("three") == {B: Answer("peer", "one")}


def test_a_blob_of_one_repository_is_never_served_to_another() -> None:
    swarm = Swarm(1)
    swarm.update("one", "a", wants(held=(A,)), 0)
    stolen = ("attacker.example/app", A[1])
    swarm.update("two", "a", wants(stolen), 0)
    assert swarm.answers("two") == {stolen: REGISTRY}


def test_a_member_that_was_failed_goes_to_the_registry() -> None:
    swarm = Swarm(2)
    swarm.update("liar", "a", wants(held=(A,)), 0)
    swarm.update("one", "a", wants(A), 0)
    swarm.update("one", "a", Told({}, (A,), (), [(A, "liar")]), 1)
    assert swarm.answers("one") == {A: REGISTRY}
    swarm.update("two", "a", wants(A), 2)
    assert swarm.answers("two") == {A: REGISTRY}, "the liar is not asked for it again"


def test_a_member_that_fails_several_is_asked_for_nothing() -> None:
    swarm = Swarm(8)
    blobs = [("r", f"sha256:{number:064x}") for number in range(MAX_FAULTS + 1)]
    swarm.update("liar", "a", wants(held=tuple(blobs)), 0)
    for number in range(MAX_FAULTS):
        swarm.update(f"c{number}", "a", wants(blobs[number]), 0)
        assert swarm.answers(f"c{number}")[blobs[number]] == Answer("peer", "liar")
        swarm.update(f"c{number}", "a", Told({}, (), (), [(blobs[number], "liar")]), 1)
    swarm.update("last", "a", wants(blobs[-1]), 2)
    assert swarm.answers("last") == {blobs[-1]: REGISTRY}


def test_an_accusation_without_a_transfer_counts_for_nothing() -> None:
    swarm = Swarm(2)
    swarm.update("honest", "a", wants(held=(A,)), 0)
    for number in range(10):
        swarm.update(f"c{number}", "a", Told({}, (), (), [(A, "honest")]), 0)
    swarm.update("one", "a", wants(A), 1)
    assert swarm.answers("one") == {A: Answer("peer", "honest")}


def test_a_source_that_vanishes_leaves_nobody_waiting() -> None:
    swarm = Swarm(1)
    swarm.update("one", "a", wants(held=(A,)), 0)
    for name in ("two", "three"):
        swarm.update(name, "a", wants(A), 0)
    swarm.remove("one", 1)
    assert [swarm.answers(name)[A] for name in ("two", "three")] == [REGISTRY, REGISTRY]


def test_a_transfer_that_takes_too_long_frees_its_source() -> None:
    swarm = Swarm(1)
    swarm.update("one", "a", wants(held=(A,)), 0)
    for name in ("slow", "two"):
        swarm.update(name, "a", wants(A), 0)
    due = swarm.next_due()
    assert due is not None
    swarm.expire(due)
    assert swarm.answers("slow") == {A: REGISTRY}
    assert swarm.answers("two") == {A: Answer("peer", "one")}


def test_whatever_members_say_somebody_can_go_on_and_limits_hold() -> None:
    for seed in range(60):
        draw = random.Random(seed)
        swarm, uploads = Swarm(2), 2
        blobs = [("r", f"sha256:{number:064x}") for number in range(4)]
        names = [f"m{number}" for number in range(6)]
        for now in range(150):
            name = draw.choice(names)
            if draw.random() < 0.1:
                swarm.remove(name, now)
            else:
                parts = [[blob for blob in blobs if draw.random() < 0.4] for _ in range(3)]
                failed = [(draw.choice(blobs), draw.choice(names))] if draw.random() < 0.2 else []
                swarm.update(name, "a", Told(dict.fromkeys(parts[0], 10), parts[1], parts[2], failed), now)
            swarm.expire(now)
            for blob in blobs:
                answers = [swarm.answers(each).get(blob) for each in names]
                waiting = [answer for answer in answers if answer is not None and answer.kind == "wait"]
                moving = [answer for answer in answers if answer is not None and answer.kind != "wait"]
                busy = [swarm.answers(each).values() for each in names]
                serving = sum(1 for each in busy for answer in each if answer.kind == "peer")
                assert not waiting or moving or serving, (seed, now)
            for each in names:
                asked = [a for other in names for a in swarm.answers(other).values() if a == Answer("peer", each)]
                assert len(asked) <= uploads, (seed, now)
        for each in names:
            swarm.remove(each, 1e6)
        assert swarm.size == (0, 0, 0), seed


def test_a_liar_is_known_after_its_next_session() -> None:
    swarm = Swarm(8)
    swarm.update("liar", "a", wants(held=(A, B)), 0)
    for number in range(MAX_FAULTS):
        swarm.update(f"c{number}", "a", wants(A), 0)
        swarm.update(f"c{number}", "a", Told({}, (), (), [(A, "liar")]), 1)
        swarm.remove("liar", 2)
        swarm.update("liar", "a", wants(held=(A, B)), 2)
    swarm.update("last", "a", wants(B), 3)
    assert swarm.answers("last") == {B: REGISTRY}


def test_who_accuses_everybody_is_believed_a_few_times() -> None:
    swarm = Swarm(8)
    blobs = [("r", f"sha256:{number:064x}") for number in range(2 * MAX_FAULTS)]
    for place, blob in enumerate(blobs):
        swarm.update(f"holder-{place}", "a", wants(held=(blob,)), 0)
        swarm.update("liar", "a", wants(blob), 0)
        swarm.update("liar", "a", Told({}, (), (), [(blob, f"holder-{place}")]), 1)
        assert swarm.answers("liar") == {}
    kinds = []
    for place, blob in enumerate(blobs):
        swarm.update(f"honest-{place}", "a", wants(blob), 2)
        kinds.append(swarm.answers(f"honest-{place}")[blob].kind)
    assert kinds == ["registry"] * MAX_FAULTS + ["peer"] * MAX_FAULTS


def test_who_lets_leases_end_gets_no_more_and_is_waited_for_by_nobody() -> None:
    swarm, now = Swarm(2), 0.0
    for number in range(MAX_FAULTS):
        blob = ("r", f"sha256:{number:064x}")
        swarm.update("late", "a", wants(blob), now)
        assert swarm.answers("late") == {blob: REGISTRY}
        now += LEASE_BASE_S
        swarm.expire(now)
        swarm.remove("late", now)
    swarm.update("late", "a", wants(A), now)
    assert swarm.answers("late") == {A: REGISTRY}
    swarm.update("next", "a", wants(A), now)
    assert swarm.answers("next") == {A: REGISTRY}, "it has the lease, and waits for nobody"
    swarm.update("third", "a", wants(A), now)
    assert swarm.answers("third") == {A: Answer("wait", "next")}
    for name in ("late", "next", "third"):
        swarm.remove(name, now)
    assert swarm.size == (0, 0, 0)
