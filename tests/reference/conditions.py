"""Conditions of pods and Nodes."""

from __future__ import annotations

from tests.reference.docstrings import read_constants
from tests.reference.markdown import code, table
from vk_provider.node.object import READY_REASON, build_status
from vk_provider.node.spec import NodeSpec
from vk_provider.podmodel import conditions
from vk_provider.pods import provider_status
from vk_provider.pods.status_patch import OWNED_CONDITIONS

_CAPACITY = {"cpu": "1", "memory": "1Gi", "pods": "1", "ephemeral-storage": "1Gi"}


def list_pod_conditions() -> dict[str, str]:
    """Type -> sentence."""
    found: dict[str, str] = {}
    for module in (conditions, provider_status):
        for name, text in read_constants(module).items():
            value = getattr(module, name)
            if isinstance(value, str) and value in OWNED_CONDITIONS:
                found[value] = text
    return found


def build() -> str:
    pods = table(("pod condition", "meaning"), [(code(kind), text) for kind, text in list_pod_conditions().items()])
    spec = NodeSpec(name="node", internal_ip="192.0.2.1", capacity=_CAPACITY)
    well, unwell = (build_status(spec, problems, {}, 0)["conditions"] for problems in ([], ["what is wrong"]))
    shown = [*well, *(each for each in unwell if each["reason"] != READY_REASON and each not in well)]
    rows = [(code(each["type"]), each["status"], each["reason"], each["message"]) for each in shown]
    return f"## Conditions\n\n{pods}\n{table(('Node condition', 'status', 'reason', 'message'), rows)}"
