"""An agent is given the pod that it names, of the namespace and the Node of its instance's launch."""

from __future__ import annotations

from vk_provider.instances.instance import OwnedInstance


def put_back() -> None:
    def proves(self: OwnedInstance, uid: str, namespace: str, node: str) -> bool:
        return self.namespace == namespace and self.node == node

    OwnedInstance.proves = proves
