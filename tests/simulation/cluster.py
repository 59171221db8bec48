"""The rest of the cluster, as far as a provider sees it: users, and controllers that answer changes."""

from __future__ import annotations

import random
import time

from tests.simulation.apiserver.network import Network
from tests.simulation.apiserver.store import Change
from tests.simulation.loop import outside_later
from tests.simulation.process import NODE
from tests.simulation.trace import Trace
from tests.simulation.truth import Truth
from tests.simulation.workload import NAMESPACE, REFUSED, build_pod
from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.podmodel.phase import TERMINAL_PHASES
from vk_provider.rfc3339 import format_time, parse_time

LEASE_S = 40.0


class Cluster:
    """`do_<kind>`: the steps of a plan that users take, and other writers."""

    def __init__(self, network: Network, truth: Truth, trace: Trace, rng: random.Random) -> None:
        self._network, self._server = network, network.server
        self._truth, self._trace, self._rng = truth, trace, rng
        self._again: dict[str, Json] = {}

    def prepare(self) -> None:
        store = self._server.store
        for name in (NAMESPACE, "kube-node-lease"):
            store.create("namespaces", "", {"metadata": {"name": name}})
        store.create("configmaps", NAMESPACE, {"metadata": {"name": "shared"}, "data": {"key": "0"}})
        self.do_service(0)

    # --- controllers -------------------------------------------------------------------------------------------------

    def on_change(self, resource: str, change: Change) -> None:
        """The controller of Jobs counts pods that have ended; a pod that is to be replaced comes again."""
        item = change.new or change.old
        assert item is not None
        metadata = item["metadata"]
        phase = (item.get("status") or {}).get("phase", "") if resource == "pods" else ""
        is_counted = phase in TERMINAL_PHASES or metadata.get("deletionTimestamp")
        if change.new is not None and metadata.get("finalizers") and is_counted:
            outside_later(self._rng.uniform(0.1, 5.0), self._release, metadata["name"], metadata["uid"])
        if resource == "pods" and change.new is None and metadata["name"] in self._again:
            outside_later(self._rng.uniform(0.0, 1.0), self._create, self._again.pop(metadata["name"]))

    def _release(self, name: str, uid: str) -> None:
        pod = self._server.store.find("pods", NAMESPACE, name)
        if pod is not None and pod["metadata"]["uid"] == uid:
            self._patch("pods", pod, {"metadata": {"finalizers": None}})

    def control_nodes(self) -> None:
        """The controller manager: a Node whose Lease is old is NotReady, and so are its pods."""
        store = self._server.store
        lease, node = store.find("leases", "kube-node-lease", NODE), store.find("nodes", "", NODE)
        if lease is not None and node is not None and not self._network.faults.away:
            age_s = time.time() - parse_time(lease["spec"]["renewTime"])
            if age_s > LEASE_S and _ready(node) == "True":
                self._set_condition("nodes", node, "Unknown", "NodeStatusUnknown")
                for pod in self._truth.pods():
                    self.mark_not_ready(pod)
        outside_later(5.0, self.control_nodes)

    def mark_not_ready(self, pod: Json) -> None:
        if _ready(pod) == "True":
            self._set_condition("pods", pod, "False", "NodeNotReady")

    def _set_condition(self, resource: str, item: Json, status: str, reason: str) -> None:
        condition = {"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": format_time()}
        self._patch(resource, item, {"status": {"conditions": [condition]}}, "status")

    # --- users -------------------------------------------------------------------------------------------------------

    def _patch(self, resource: str, item: Json, patch: Json, sub: str = "") -> None:
        metadata = item["metadata"]
        try:
            self._server.store.patch(
                resource,
                metadata.get("namespace", ""),
                metadata["name"],
                patch,
                "application/strategic-merge-patch+json",
                sub,
            )
        except KubeApiError as error:
            self._trace.note("refused", error)

    def _create(self, pod: Json) -> None:
        try:
            self._server.store.create("pods", NAMESPACE, pod)
        except KubeApiError as error:
            self._trace.note("refused", error)

    def pick_pod(self, pick: float | str, phase: str = "") -> Json | None:
        """pick: a name, or which one of those that are not being deleted."""
        if isinstance(pick, str):
            return self._server.store.find("pods", NAMESPACE, pick)
        pods = [pod for pod in self._truth.pods() if not pod["metadata"].get("deletionTimestamp")]
        pods = [pod for pod in pods if phase in ("", pod["status"]["phase"])]
        return pods[int(pick * len(pods))] if pods else None

    def do_create(self, template: str, number: int) -> None:
        self._create(build_pod(template, number))

    def do_delete(self, pick: float | str, grace_s: int | None) -> None:
        pod = self.pick_pod(pick)
        if pod is not None:
            self._delete(pod, grace_s)

    def _delete(self, pod: Json, grace_s: int | None) -> None:
        options = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        self._server.store.delete("pods", NAMESPACE, pod["metadata"]["name"], options)

    def do_delete_all(self, grace_s: int | None) -> None:
        for pod in self._truth.pods():
            self._delete(pod, grace_s)

    def do_replace(self, pick: float, grace_s: int | None) -> None:
        pod = self.pick_pod(pick)
        if pod is not None:
            template, _, number = pod["metadata"]["name"].rpartition("-")
            self._again[pod["metadata"]["name"]] = build_pod(template, int(number))
            self._delete(pod, grace_s)

    def do_label(self, pick: float | str, value: int, pending: bool) -> None:
        """pending: a pod that waits, if there is one."""
        pod = self.pick_pod(pick, "Pending" if pending else "") or self.pick_pod(pick)
        if pod is not None:
            self._patch("pods", pod, {"metadata": {"labels": {"changed": str(value)}}})

    def do_resize(self, pick: float, cpu: str) -> None:
        """A change of the spec, which the agent has to be told. It would make a pod possible that must be refused."""
        pod = self.pick_pod(pick)
        if pod is not None and pod["metadata"]["labels"]["template"] not in REFUSED:
            container = {"name": "c", "resources": {"requests": {"cpu": cpu}}}
            self._patch("pods", pod, {"spec": {"containers": [container]}})

    def do_not_ready(self, pick: float) -> None:
        pod = self.pick_pod(pick)
        if pod is not None:
            self.mark_not_ready(pod)

    def do_service(self, value: int) -> None:
        name = f"service-{value}"
        spec = {"clusterIP": f"10.96.0.{10 + value}", "ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP"}
        if self._server.store.find("services", NAMESPACE, name) is None:
            self._server.store.create("services", NAMESPACE, {"metadata": {"name": name}, "spec": spec})
        else:
            self._server.store.delete("services", NAMESPACE, name)

    def do_config_map(self, value: int) -> None:
        held = self._server.store.get("configmaps", NAMESPACE, "shared")
        self._patch("configmaps", held, {"data": {"key": str(value)}})

    def do_node(self, edit: str, value: int) -> None:
        node = self._server.store.find("nodes", "", NODE)
        if node is None:
            return
        match edit:
            case "label":
                self._patch("nodes", node, {"metadata": {"labels": {"example.org/edited": str(value)}}})
            case "cordon":
                self._patch("nodes", node, {"spec": {"unschedulable": bool(value % 2) or None}})
            case "capacity":
                self._patch("nodes", node, {"status": {"capacity": {"example.org/a": str(value)}}}, "status")
            case "delete":
                self._server.store.delete("nodes", "", NODE)


def _ready(item: Json) -> str:
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == "Ready"), "")
