"""What is remembered of instances that fetch blobs from each other, also after their session or pod has ended (pure;
time is an argument, in seconds).

An agent may be its pod's: it says that it has what it does not deliver, that others have not delivered, or that it
fetches what it never does. Each is believed a few times. A slow network makes the same of an honest one, so what was
noted is forgiven after a while: nothing that the instance says could be.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_FAULTS = 3
"""Failures reported by different members after which a member is asked by nobody any more; members that one may accuse
before its word counts no more; and leases that it may let end."""
FORGIVEN_S = 600.0
"""What was noted longer ago does not count. Whoever lies holds others up for three leases in that time."""
MAX_MEMBERS = 10_000
"""That are remembered of each kind; what was noted longest ago is forgotten."""


class _Book:
    """Whose faults there are, each with what it is about, and when it was noted."""

    def __init__(self) -> None:
        self._faults: OrderedDict[str, dict[str, float]] = OrderedDict()

    def note(self, member: str, about: str, now: float) -> None:
        faults = self.find(member, now)
        faults[about] = now
        self._faults[member] = faults
        self._faults.move_to_end(member)
        if len(self._faults) > MAX_MEMBERS:
            self._faults.popitem(last=False)

    def find(self, member: str, now: float) -> dict[str, float]:
        """Those that count."""
        return {about: at for about, at in self._faults.get(member, {}).items() if now - at < FORGIVEN_S}


class Reputation:
    def __init__(self) -> None:
        self._accusers, self._accused, self._late = _Book(), _Book(), _Book()

    def accuse(self, accuser: str, accused: str, now: float) -> bool:
        """`accused` has not delivered, says `accuser`. Whether that counts."""
        named = self._accused.find(accuser, now)
        if accused not in named and len(named) >= MAX_FAULTS:
            return False
        self._accused.note(accuser, accused, now)
        self._accusers.note(accused, accuser, now)
        return True

    def is_faulty(self, member: str, now: float) -> bool:
        return len(self._accusers.find(member, now)) >= MAX_FAULTS

    def note_late(self, member: str, now: float) -> None:
        """A lease has ended without the blob."""
        known = self._late.find(member, now)
        free = [number for number in map(str, range(MAX_FAULTS)) if number not in known]
        self._late.note(member, free[0] if free else min(known, key=lambda number: known[number]), now)

    def may_lease(self, member: str, now: float) -> bool:
        """Whether others wait for what the member fetches."""
        return len(self._late.find(member, now)) < MAX_FAULTS
