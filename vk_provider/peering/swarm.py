"""Who fetches which blob from whom (pure; time is an argument, in seconds).

In each zone one member at a time has the lease to fetch a blob from the registry; the others wait for it. Whoever has
the blob serves up to `uploads` others at once, and each of these serves others in turn, so that it spreads as a tree.
A member that was failed by its source goes to the registry: a fault costs one attempt. Whose faults are many is known
longer than the member is one (reputation).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from vk_provider.peering.reputation import Reputation

LEASE_BASE_S, TRANSFER_BASE_S = 15.0, 10.0
MIN_REGISTRY_RATE, MIN_PEER_RATE = 4e6, 8e6
"""Bytes a second that a registry and a peer are given credit for."""
LEASE_MAX_S = 600.0

Blob = tuple[str, str]
"""(repository, digest)"""


@dataclass(frozen=True, slots=True)
class Answer:
    """See wire.blobs.BlobAnswer. member: the source, or who is waited for."""

    kind: Literal["registry", "peer", "wait"]
    member: str = ""


REGISTRY = Answer("registry")


@dataclass(slots=True, eq=False)
class _Member:
    zone: str
    wanted: dict[Blob, Answer] = field(default_factory=dict)
    fetching: set[Blob] = field(default_factory=set)
    held: set[Blob] = field(default_factory=set)
    failed: set[tuple[Blob, str]] = field(default_factory=set)
    serving: set[tuple[str, Blob]] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Place:
    """A blob in a zone. free: holders that may have an upload to spare; waiting: in the order of their asking."""

    size: int = 0
    holders: dict[str, None] = field(default_factory=dict)
    free: dict[str, None] = field(default_factory=dict)
    waiting: dict[str, None] = field(default_factory=dict)
    lessee: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.holders or self.waiting or self.lessee)


@dataclass(frozen=True, slots=True)
class Told:
    """What a member says now. wanted: with sizes in bytes; failed: (blob, member that was its source)."""

    wanted: Mapping[Blob, int]
    fetching: Collection[Blob]
    held: Collection[Blob]
    failed: Collection[tuple[Blob, str]] = ()


class Swarm:
    """uploads: that one member is asked for at once. `take_changed` says whose answers have changed."""

    def __init__(self, uploads: int) -> None:
        self._uploads = uploads
        self._members: dict[str, _Member] = {}
        self._places: dict[tuple[str, Blob], _Place] = {}
        self._until: dict[tuple[str, Blob], float] = {}
        """End of the lease or of the transfer of a member."""
        self._changed: set[str] = set()
        self._reputation = Reputation()

    def update(self, name: str, zone: str, told: Told, now: float) -> None:
        """Take what a member says over what it has said before."""
        member = self._members.setdefault(name, _Member(zone))
        for blob in set(told.held) - member.held:
            self._hold(name, member, blob, now)
        for blob in member.held - set(told.held):
            self._unhold(name, member, blob, now)
        for fault in set(told.failed) - member.failed:
            self._fail(name, member, *fault, now)
        member.failed = set(told.failed)
        member.fetching = set(told.fetching)
        for blob in [blob for blob in member.wanted if blob not in told.wanted]:
            if blob not in member.fetching or member.wanted[blob].kind != "registry":
                self._withdraw(name, member, blob, now)
        for blob, size in told.wanted.items():
            if blob not in member.wanted and blob not in member.held:
                self._ask(name, member, blob, size, now)

    def answers(self, name: str) -> dict[Blob, Answer]:
        """To what the member wants or is fetching."""
        member = self._members.get(name)
        return dict(member.wanted) if member is not None else {}

    def take_changed(self) -> set[str]:
        changed, self._changed = self._changed, set()
        return changed

    def remove(self, name: str, now: float) -> None:
        """The member is gone."""
        member = self._members.get(name)
        if member is None:
            return
        for blob in list(member.wanted):
            self._withdraw(name, member, blob, now)
        for blob in list(member.held):
            self._unhold(name, member, blob, now)
        del self._members[name]
        self._changed.discard(name)
        for client, blob in list(member.serving):
            self._end_transfer(client, blob, now)
            self._send_to_registry(client, blob)

    def expire(self, now: float) -> None:
        """End the leases and transfers that take too long: another member gets the lease, the client goes to the
        registry."""
        for name, blob in [key for key, until in self._until.items() if until <= now]:
            self._until.pop((name, blob), None)
            member = self._members[name]
            place = self._places.get((member.zone, blob))
            if place is not None and place.lessee == name:
                place.lessee = ""
                self._reputation.note_late(name, now)
                self._settle(member.zone, blob, place, now)
                self._drop_empty(member.zone, blob)
            elif self._end_transfer(name, blob, now):
                self._send_to_registry(name, blob)

    def next_due(self) -> float | None:
        return min(self._until.values(), default=None)

    @property
    def size(self) -> tuple[int, int, int]:
        """(members, blobs in zones, leases and transfers), for metrics and for tests of what is left."""
        return len(self._members), len(self._places), len(self._until)

    # --- parts ---------------------------------------------------------------------------------------------------

    def _place(self, zone: str, blob: Blob) -> _Place:
        return self._places.setdefault((zone, blob), _Place())

    def _drop_empty(self, zone: str, blob: Blob) -> None:
        place = self._places.get((zone, blob))
        if place is not None and place.is_empty:
            del self._places[(zone, blob)]

    def _ask(self, name: str, member: _Member, blob: Blob, size: int, now: float) -> None:
        place = self._place(member.zone, blob)
        place.size = size
        place.waiting[name] = None
        member.wanted[blob] = Answer("wait")
        self._settle(member.zone, blob, place, now)
        if member.wanted[blob].kind == "wait":
            member.wanted[blob] = Answer("wait", place.lessee)
            self._changed.add(name)

    def _settle(self, zone: str, blob: Blob, place: _Place, now: float) -> None:
        """Give those that wait a source, as far as there are any."""
        while place.waiting:
            client = next(iter(place.waiting))
            source = self._find_source(place)
            if source:
                self._begin_transfer(client, source, blob, place, now)
            elif place.lessee or place.holders:
                return  # a holder that is busy now will be free
            elif not self._reputation.may_lease(client, now):
                self._answer(client, blob, place, REGISTRY)  # and nobody waits for it
            else:
                place.lessee = client
                self._answer(client, blob, place, REGISTRY)
                self._until[(client, blob)] = now + min(LEASE_MAX_S, LEASE_BASE_S + place.size / MIN_REGISTRY_RATE)

    def _find_source(self, place: _Place) -> str:
        while place.free:
            name = next(iter(place.free))
            del place.free[name]
            if len(self._members[name].serving) < self._uploads:
                place.free[name] = None  # to the end of the row
                return name
        return ""

    def _begin_transfer(self, client: str, source: str, blob: Blob, place: _Place, now: float) -> None:
        self._members[source].serving.add((client, blob))
        self._answer(client, blob, place, Answer("peer", source))
        self._until[(client, blob)] = now + min(LEASE_MAX_S, TRANSFER_BASE_S + place.size / MIN_PEER_RATE)

    def _answer(self, client: str, blob: Blob, place: _Place, answer: Answer) -> None:
        place.waiting.pop(client, None)
        self._members[client].wanted[blob] = answer
        self._changed.add(client)

    def _end_transfer(self, client: str, blob: Blob, now: float) -> bool:
        """Free the source's upload; False where there is no transfer."""
        member = self._members[client]
        answer = member.wanted.get(blob, REGISTRY)
        if answer.kind != "peer":
            return False
        self._until.pop((client, blob), None)
        source = self._members.get(answer.member)
        if source is not None:
            source.serving.discard((client, blob))
            self._offer(answer.member, source, now)
        return True

    def _offer(self, name: str, member: _Member, now: float) -> None:
        """The member has an upload to spare."""
        for blob in member.held:
            place = self._places.get((member.zone, blob))
            if place is not None and name in place.holders:
                place.free.setdefault(name)
                if place.waiting:
                    self._settle(member.zone, blob, place, now)
                    if len(member.serving) >= self._uploads:
                        return

    def _send_to_registry(self, client: str, blob: Blob) -> None:
        member = self._members[client]
        if blob in member.wanted:
            member.wanted[blob] = REGISTRY
            self._changed.add(client)

    def _hold(self, name: str, member: _Member, blob: Blob, now: float) -> None:
        member.held.add(blob)
        if blob in member.wanted:
            self._finish(name, member, blob, now)
        place = self._place(member.zone, blob)
        if not self._reputation.is_faulty(name, now):
            place.holders[name] = None
            place.free[name] = None
        self._settle(member.zone, blob, place, now)
        self._drop_empty(member.zone, blob)

    def _unhold(self, name: str, member: _Member, blob: Blob, now: float) -> None:
        member.held.discard(blob)
        self._strike(member.zone, blob, name, now)

    def _strike(self, zone: str, blob: Blob, holder: str, now: float) -> None:
        """The holder is asked no more; without any other, somebody goes to the registry."""
        place = self._places.get((zone, blob))
        if place is not None:
            place.holders.pop(holder, None)
            place.free.pop(holder, None)
            self._settle(zone, blob, place, now)
            self._drop_empty(zone, blob)

    def _finish(self, name: str, member: _Member, blob: Blob, now: float) -> None:
        """The member waits for the blob no more, whatever came of it."""
        self._end_transfer(name, blob, now)
        member.wanted.pop(blob, None)
        self._until.pop((name, blob), None)
        place = self._place(member.zone, blob)
        place.waiting.pop(name, None)
        if place.lessee == name:
            place.lessee = ""

    def _withdraw(self, name: str, member: _Member, blob: Blob, now: float) -> None:
        self._finish(name, member, blob, now)
        place = self._place(member.zone, blob)
        self._settle(member.zone, blob, place, now)
        self._drop_empty(member.zone, blob)

    def _fail(self, name: str, member: _Member, blob: Blob, source: str, now: float) -> None:
        """Only who was sent to a source can accuse it."""
        if member.wanted.get(blob) != Answer("peer", source):
            return
        accused = self._members.get(source)
        self._end_transfer(name, blob, now)
        self._send_to_registry(name, blob)
        if accused is not None and self._reputation.accuse(name, source, now):
            for each in list(accused.held) if self._reputation.is_faulty(source, now) else [blob]:
                self._strike(accused.zone, each, source, now)
