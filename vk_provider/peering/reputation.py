"""What is remembered of instances that fetch blobs from each other, also after their session or pod has ended (pure).

An agent may be its pod's: it says that it has what it does not deliver, that others have not delivered, or that it
fetches what it never does. Each is believed a few times.
"""

from __future__ import annotations

from collections import OrderedDict

MAX_FAULTS = 3
"""Failures reported by different members after which a member is asked by nobody any more; members that one may accuse
before its word counts no more; and leases that it may let end."""
MAX_MEMBERS = 10_000
"""That are remembered of each kind; what was noted longest ago is forgotten."""


class Reputation:
    def __init__(self) -> None:
        self._accusers: OrderedDict[str, set[str]] = OrderedDict()
        self._accused: OrderedDict[str, set[str]] = OrderedDict()
        self._late: OrderedDict[str, int] = OrderedDict()

    def accuse(self, accuser: str, accused: str) -> bool:
        """`accused` has not delivered, says `accuser`. Whether that counts."""
        named = self._accused.setdefault(accuser, set())
        if accused not in named and len(named) >= MAX_FAULTS:
            return False
        named.add(accused)
        self._accusers.setdefault(accused, set()).add(accuser)
        for kept in (self._accused, self._accusers):
            if len(kept) > MAX_MEMBERS:
                kept.popitem(last=False)
        return True

    def is_faulty(self, member: str) -> bool:
        return len(self._accusers.get(member, ())) >= MAX_FAULTS

    def note_late(self, member: str) -> None:
        """A lease has ended without the blob."""
        self._late[member] = min(MAX_FAULTS, self._late.get(member, 0) + 1)
        if len(self._late) > MAX_MEMBERS:
            self._late.popitem(last=False)

    def may_lease(self, member: str) -> bool:
        """Whether others wait for what the member fetches."""
        return self._late.get(member, 0) < MAX_FAULTS
