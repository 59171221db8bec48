"""An instance that was idle is given to a pod without the tables: its agent greets no more."""

from __future__ import annotations

from vk_provider.instances.instance import OwnedInstance
from vk_provider.pods.agents import AgentSide


def put_back() -> None:
    right = AgentSide.on_assigned

    def on_assigned(self: AgentSide, uid: str, owned: OwnedInstance, message: str) -> None:
        session, owned.link.session = owned.link.session, None
        right(self, uid, owned, message)
        owned.link.session = session

    AgentSide.on_assigned = on_assigned
