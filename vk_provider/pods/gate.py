"""Admission of pods to their Nodes: what each Node holds, and what it can honour."""

from __future__ import annotations

from collections.abc import Callable

from vk_provider.jsontypes import Json
from vk_provider.podmodel.labels import Selector
from vk_provider.pods.admission import NodeUsage, Verdict, admit, hold_by_policy
from vk_provider.pods.record import PodRecord


class AdmissionGate:
    """nodes: the Node object by name, None until it was read. features: of the instances' runtime (features_of).
    daemonsets: see admission.parse_daemonsets. no_gpus: see InstanceRuntime. `usage`: by Node name."""

    def __init__(
        self,
        nodes: Callable[[str], Json | None],
        features: frozenset[str],
        daemonsets: Selector | None,
        no_gpus: str = "",
    ) -> None:
        self._nodes = nodes
        self._features = features
        self._daemonsets = daemonsets
        self._no_gpus = no_gpus
        self.usage: dict[str, NodeUsage] = {}

    def knows_node(self, name: str) -> bool:
        """Whether the Node was read or registered: without its labels and capacity no pod is refused."""
        return self._nodes(name) is not None

    def host_ips(self, name: str) -> tuple[str, ...]:
        """The Node's own addresses, none while it is not known."""
        addresses = ((self._nodes(name) or {}).get("status") or {}).get("addresses") or ()
        return tuple(item["address"] for item in addresses if item["type"] == "InternalIP")

    def judge(self, record: PodRecord, read: Json | None = None) -> Verdict | None:
        """Admit the pod, which counts from then on, and return None; or why it is refused or held. Only while the Node
        is known. read: the Node as just read, None for what its watch has brought."""
        node = read or self._nodes(record.node)
        assert node is not None
        verdict = hold_by_policy(record.pod, self._daemonsets)
        if verdict is None:
            usage = self.usage.setdefault(record.node, NodeUsage())
            verdict = admit(record.pod, node, usage, self._features, self._no_gpus)
        return verdict

    def count(self, record: PodRecord) -> None:
        """Count a pod, which an earlier process has admitted, against its Node."""
        if record.exists:
            self.usage.setdefault(record.node, NodeUsage()).add(record.pod)

    def release(self, record: PodRecord) -> None:
        """Stop counting the pod."""
        usage = self.usage.get(record.node)
        if usage is not None:
            usage.remove(record.uid)
