"""Pods that an earlier process may have served: they wait until it is known that no instance has them."""

from __future__ import annotations

from collections.abc import Callable

from vk_provider.instances.demand import Demand
from vk_provider.instances.ends import Ends
from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.refusals import Refusals
from vk_provider.instances.unclaimed import UnclaimedInstances


class InheritedDemands:
    """Held while an instance that may have one of them has not spoken, or one whose agent names it is about to end.
    Their labels may have changed since, so any instance of the Node and namespace may. on_free(demand): none has it;
    on_heard: one of the instances has spoken, or has ended."""

    def __init__(
        self,
        unclaimed: UnclaimedInstances,
        ends: Ends,
        on_free: Callable[[Demand], None],
        on_heard: Callable[[], None],
    ) -> None:
        self._unclaimed, self._on_free, self._on_heard = unclaimed, on_free, on_heard
        self._refusals = Refusals(ends, self.release)
        self._held: dict[str, Demand] = {}

    def hold(self, demand: Demand) -> bool:
        """Whether the pod has to wait."""
        if not demand.inherited or not self._may_be_served(demand):
            return False
        self._held[demand.uid] = demand
        return True

    def withdraw(self, uid: str) -> None:
        """The pod needs no instance any more."""
        self._held.pop(uid, None)

    def release(self) -> None:
        """One of the instances has spoken, or has ended."""
        for uid in list(self._held):  # who is served releases others
            demand = self._held.get(uid)
            if demand is not None and not self._may_be_served(demand):
                del self._held[uid]
                self._on_free(demand)
        self._on_heard()

    def refuse(self, owned: OwnedInstance, uid: str) -> None:
        """End the instance: its agent names the pod, and nothing proves that it was given that pod."""
        self._refusals.add(owned, uid)

    def _may_be_served(self, demand: Demand) -> bool:
        return self.may_serve(demand.uid, demand.node, demand.namespace)

    def may_serve(self, uid: str, node: str, namespace: str) -> bool:
        """Whether an instance may have the pod that has not spoken, or whose agent names it and that has not ended."""
        return self._refusals.holds(uid) or self._unclaimed.expects_for(node, namespace)

    def close(self) -> None:
        self._refusals.close()
