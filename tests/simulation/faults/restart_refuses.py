"""A restart fails waiting pods with NodeAffinity: pods are admitted before the Node was read, when it has no labels,
and what a fresh read says does not count."""

from __future__ import annotations

from typing import Any

from vk_provider.node_service import Nodes
from vk_provider.pods.gate import AdmissionGate


def put_back() -> None:
    known = Nodes.find_object

    def find_object(self: Nodes, name: str) -> dict[str, Any] | None:
        return known(self, name) or {"metadata": {"labels": {}}, "status": {}}

    judge = AdmissionGate.judge
    Nodes.find_object = find_object
    AdmissionGate.knows_node = lambda self, name: True
    AdmissionGate.judge = lambda self, record, read=None: judge(self, record)
