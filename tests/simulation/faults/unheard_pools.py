"""After a start a pod does not wait for the agents of pools, one of which an earlier process may have given it to."""

from __future__ import annotations

from vk_provider.instances.demand import Demand
from vk_provider.instances.supply import Supply


def put_back() -> None:
    def may_be_served(self: Supply, demand: Demand) -> bool:
        expected = (self.unclaimed[name] for name in self._expected)
        return any((owned.node, owned.namespace) == (demand.node, demand.namespace) for owned in expected)

    Supply._may_be_served = may_be_served  # type: ignore[method-assign]
