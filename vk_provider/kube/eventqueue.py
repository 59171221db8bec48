"""Events that wait to be posted, fair between their involved objects. Pure.

Objects take turns (round robin), oldest event first within an object: many events of one object delay the next event of
another by one request. An object whose event is being posted has no turn, so that the state of its series (which Event
exists, under which name) includes the result of the previous request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from vk_provider.kube.correlator import CorrelatedEvent, Key

Done = Callable[[], None]
_Share = tuple[int, bool]
"""How many events of an object wait, and whether the oldest is a Normal one. The largest is dropped from first."""


@dataclass(slots=True)
class WaitingEvent:
    """One request to come. `on_done`: called when the event was posted or dropped."""

    planned: CorrelatedEvent
    on_done: list[Done] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.planned.namespace

    @property
    def is_normal(self) -> bool:
        return self.planned.is_normal

    def finish(self) -> None:
        """Call the callbacks, once."""
        callbacks, self.on_done = self.on_done, []
        for callback in callbacks:
            callback()


class EventQueue:
    """`take` an event, post it, then `release` its object."""

    def __init__(self) -> None:
        self._waiting: dict[Key, dict[Key, WaitingEvent]] = {}
        self._turns: OrderedDict[Key, None] = OrderedDict()
        self._taken: set[Key] = set()
        self._shares: dict[_Share, OrderedDict[Key, None]] = {}
        """Objects with waiting events by their share of them."""
        self._owners: dict[str, set[Key]] = {}
        """Objects with waiting events by the namespace of these."""
        self._size = 0

    def __len__(self) -> int:
        """Events that wait, without those that were taken."""
        return self._size

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is being posted."""
        return not self._size and not self._taken

    @property
    def has_turn(self) -> bool:
        """Whether `take` would return an event."""
        return bool(self._turns)

    def find(self, event: CorrelatedEvent) -> WaitingEvent | None:
        """The waiting event of the same series."""
        events = self._waiting.get(event.object_key)
        return events.get(event.key) if events is not None else None

    def add(self, event: WaitingEvent) -> None:
        owner = event.planned.object_key
        events = self._waiting.setdefault(owner, {})
        before = _share_of(events)
        events[event.planned.key] = event
        self._size += 1
        self._move(owner, before, _share_of(events))
        self._owners.setdefault(event.namespace, set()).add(owner)
        if owner not in self._taken:
            self._turns[owner] = None  # keeps its place in the queue

    def take(self) -> WaitingEvent | None:
        """The next event; None when no object has a turn."""
        if not self._turns:
            return None
        owner, _ = self._turns.popitem(last=False)
        self._taken.add(owner)
        return self._remove(owner, next(iter(self._waiting[owner])))

    def release(self, event: WaitingEvent) -> None:
        """The taken event was posted or dropped: its object gets turns again, after all others that wait."""
        owner = event.planned.object_key
        self._taken.discard(owner)
        if owner in self._waiting:
            self._turns[owner] = None

    def drop_one(self) -> WaitingEvent:
        """Remove one event of an object with the most events: its oldest Normal one, or its oldest."""
        owner = next(iter(self._shares[max(self._shares)]))
        events = self._waiting[owner]
        key = next((key for key, event in events.items() if event.is_normal), next(iter(events)))
        return self._remove(owner, key)

    def drop_namespace(self, namespace: str) -> list[WaitingEvent]:
        """Remove all events of a namespace."""
        owners = list(self._owners.get(namespace, ()))
        return [self._remove(owner, key) for owner in owners for key in list(self._waiting[owner])]

    def _remove(self, owner: Key, key: Key) -> WaitingEvent:
        events = self._waiting[owner]
        before = _share_of(events)
        event = events.pop(key)
        self._size -= 1
        self._move(owner, before, _share_of(events))
        if not events:
            del self._waiting[owner]
            self._turns.pop(owner, None)
            self._leave(owner, event.namespace)
        return event

    def _leave(self, owner: Key, namespace: str) -> None:
        owners = self._owners[namespace]
        owners.discard(owner)
        if not owners:
            del self._owners[namespace]

    def _move(self, owner: Key, before: _Share, after: _Share) -> None:
        if before == after:
            return
        if before[0]:
            owners = self._shares[before]
            del owners[owner]
            if not owners:
                del self._shares[before]
        if after[0]:
            self._shares.setdefault(after, OrderedDict())[owner] = None


def _share_of(events: dict[Key, WaitingEvent]) -> _Share:
    return len(events), bool(events) and next(iter(events.values())).is_normal
