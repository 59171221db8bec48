"""Instances that no pod has: idle ones, stopped ones of pools, and those whose agents have not said yet what they have.

An agent that is expected to speak may turn out to be empty, or to have the pod that somebody waits for: that is worth
waiting for, and not for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

from vk_provider.instances.instance import OwnedInstance

PATIENCE_S = 60.0
"""How long pods wait for an instance that may turn out to be empty before another one is launched for them."""


class UnclaimedInstances:
    """on_left: one of them has a pod, or is for nobody, now. on_resolved(instance): what it has is known, or is not
    waited for any more: who waits may need a launch."""

    def __init__(self, on_left: Callable[[], None], on_resolved: Callable[[OwnedInstance], None]) -> None:
        self._on_left, self._on_resolved = on_left, on_resolved
        self._all: dict[str, OwnedInstance] = {}
        self._expected: dict[str, asyncio.TimerHandle] = {}
        self._new: set[str] = set()

    @property
    def by_id(self) -> Mapping[str, OwnedInstance]:
        return self._all

    def __iter__(self) -> Iterator[OwnedInstance]:
        """As they are now: they may change meanwhile."""
        return iter(list(self._all.values()))

    def add(self, owned: OwnedInstance) -> None:
        self._all[owned.instance_id] = owned

    def remove(self, owned: OwnedInstance) -> None:
        """Whose it is, is known, or that it is for nobody."""
        if self._all.pop(owned.instance_id, None) is not None:
            self._on_left()
        self.resolve(owned)

    def expect(self, owned: OwnedInstance, *, is_new: bool) -> None:
        """Its agent is asked what it has. is_new: nothing that an earlier process has given it."""
        self._stop_expecting(owned)
        if is_new:
            self._new.add(owned.instance_id)
        loop = asyncio.get_running_loop()
        self._expected[owned.instance_id] = loop.call_later(PATIENCE_S, self.resolve, owned)

    def resolve(self, owned: OwnedInstance) -> None:
        self._stop_expecting(owned)
        self._on_resolved(owned)

    def _stop_expecting(self, owned: OwnedInstance) -> None:
        self._new.discard(owned.instance_id)
        timer = self._expected.pop(owned.instance_id, None)
        if timer is not None:
            timer.cancel()

    def expects_for(self, node: str, namespace: str) -> bool:
        """Whether one that has not spoken may have a pod of the Node and namespace since an earlier process."""
        expected = (self._all[name] for name in self._expected if name not in self._new)
        return any(owned.node == node and (owned.is_for_anybody or owned.namespace == namespace) for owned in expected)

    def count_expected(self, digest: str) -> int:
        """Of a group: they are about to greet, and may be empty."""
        return sum(self._all[name].group == digest for name in self._expected)

    def find_idle(self, digest: str) -> OwnedInstance | None:
        return next((each for each in self._all.values() if each.is_idle and each.group == digest), None)

    def close(self) -> None:
        for timer in self._expected.values():
            timer.cancel()
