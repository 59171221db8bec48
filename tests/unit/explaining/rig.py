"""A provider's knowledge of a made-up cluster: real indexes, records, an API server in memory, agents that answer as
they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from types import SimpleNamespace
from typing import Any

import orjson

from tests.service_objects import NODE, NODE4, NODE6
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.errors import AgentUnreachableError, KubeApiError
from vk_provider.explain.document import Explanation
from vk_provider.explaining.explainer import NetExplainer
from vk_provider.explaining.sources import Sources
from vk_provider.instances.instance import OwnedInstance
from vk_provider.jsontypes import Json
from vk_provider.kube.paths import PODS
from vk_provider.netpolicy.index import PolicyIndex
from vk_provider.netpolicy.judgement import Connection, Judgement, RuleName
from vk_provider.netpolicy.peer import TERMINATED
from vk_provider.netpolicy.policy import Direction
from vk_provider.netpolicy.words import describe_rule
from vk_provider.pods.record import PodRecord
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.table import Table
from vk_provider.settings import ClusterSettings

DNS = "10.96.0.10"
Answer = Callable[[str], Json | bytes]
"""Of an agent to a question about an address: the document, or bytes as they are."""


class World:
    """node_addresses: of all Nodes; dns: the cluster's."""

    node_addresses = (NODE4, NODE6)

    def __init__(self, node: str = NODE, dns: tuple[str, ...] = (), zone: str = "z1") -> None:
        self.services, self.index = ServiceIndex(node, self.node_addresses), PolicyIndex()
        self.services.set_service_cidrs(["10.96.0.0/16"])
        self.node, self.zone = node, zone
        self.records: dict[str, PodRecord] = {}
        self.objects: list[Json] = []
        self.foreign: list[Json] = []
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str]] = []
        self.compiled = True
        self.api_error: KubeApiError | None = None
        sources = Sources(lambda: self.records.values(), self, self, self, ClusterSettings(dns=dns))
        self.sources = sources
        self.explainer = NetExplainer(sources)

    # What there is.

    def apply(self, *objects: Json) -> None:
        """Services, EndpointSlices, policies (what has no kind)."""
        for item in objects:
            match item.get("kind"):
                case "Service":
                    self.services.apply_service(item)
                case "EndpointSlice":
                    self.services.apply_slice(item)
                case _:
                    self.index.apply_policy(item)
            self.objects.append(item)

    def add_pod(self, pod: Json, instance_address: str = "", *, answers: bool = True) -> PodRecord:
        """One of ours, on an instance. answers: whether its agent does."""
        uid, spec = pod["metadata"]["uid"], pod["spec"]
        record = PodRecord(uid, self.node, {**pod, "spec": {**spec, "nodeName": self.node}})
        address = (pod["status"].get("podIP") or "") if pod["status"]["phase"] != "Pending" else ""
        if address:
            later = [item["ip"] for item in pod["status"]["podIPs"][1:]]
            address6 = later[0] if later else ""
            own6 = address6 if spec.get("hostNetwork") or not later else f"fd00:172::{len(self.records) + 1}"
            own = address if spec.get("hostNetwork") else instance_address or f"172.16.0.{len(self.records) + 1}"
            described = Instance(
                f"i-{uid}",
                InstanceState.RUNNING,
                "t",
                self.zone,
                "on-demand",
                "amd64",
                own,
                address,
                0.0,
                primary_ipv6=own6,
                pod_ipv6=address6,
            )
            owned = OwnedInstance(described)
            owned.link.session = object() if answers else None
            record.assignment.take(owned)
        record.report.provide({"phase": pod["status"]["phase"]})
        self.records[uid] = record
        if pod["status"]["phase"] not in TERMINATED:
            self.index.follow(uid, pod)
        self.index.apply_pod(uid, pod)
        return record

    def add_foreign(self, pod: Json, node: str = "other") -> None:
        self.index.apply_pod(pod["metadata"]["uid"], pod)
        self.foreign.append({**pod, "spec": {**pod["spec"], "nodeName": node}})

    def set_tables(self, uid: str, **revisions: tuple[str, str, float]) -> None:
        """name=(newest, in force, behind in seconds)."""
        for name, (newest, in_force, behind_s) in revisions.items():
            flow: Any = SimpleNamespace(
                name=name, newest=newest, in_force=in_force, behind_s=lambda b=behind_s: b, held_s=lambda: 7.0
            )
            self.records[uid].tables.append(flow)

    async def explain(self, uid: str, written: str, protocol: str = "") -> Explanation:
        return await self.explainer.explain(uid, written, protocol)

    # Network.

    @property
    def policies(self) -> World:
        return self

    def zone_of(self, record: PodRecord) -> str:
        return self.zone

    def service_table(self, record: PodRecord) -> Table | None:
        return self.services.table(self.zone) if self.compiled else None

    async def settle(self) -> None:
        self.index.compile_some(1_000_000)

    def judge(self, uid: str, connection: Connection) -> Judgement | None:
        assert self.index.is_compiled, "it would all be compiled in one turn of the event loop"
        return self.index.judge(uid, connection) if self.index.follows(uid) else None

    def describe_rule(self, direction: Direction, rule: RuleName) -> str:
        policy = self.index.find_policy(rule.policy)
        assert policy is not None
        return describe_rule(direction, policy.rules[direction][rule.number - 1])

    # The API server.

    async def get(self, path: str, query: Mapping[str, str] | None = None, timeout_s: float = 30) -> Json:
        if self.api_error is not None:
            raise self.api_error
        query = query or {}
        if path == PODS:
            wanted = query["fieldSelector"].removeprefix("status.podIP=")
            return {"items": [pod for pod in self.foreign if pod["status"]["podIP"] == wanted]}
        parts = path.strip("/").split("/")
        namespace = parts[parts.index("namespaces") + 1]
        if path.endswith("/services"):
            name = query["fieldSelector"].removeprefix("metadata.name=")
            return {"items": list(self._find("Service", namespace, lambda item: item["metadata"]["name"] == name))}
        if path.endswith("/endpointslices"):
            label, _, name = query["labelSelector"].partition("=")
            return {
                "items": self._find(
                    "EndpointSlice", namespace, lambda item: item["metadata"]["labels"].get(label) == name
                )
            }
        for pod in self.foreign:
            if (pod["metadata"]["namespace"], pod["metadata"]["name"]) == (namespace, parts[-1]):
                return pod
        raise KubeApiError(404, "NotFound", "not found")

    def _find(self, kind: str, namespace: str, fits: Callable[[Json], bool]) -> list[Json]:
        newest = {
            (item["metadata"]["namespace"], item["metadata"]["name"]): item
            for item in self.objects
            if item.get("kind") == kind and item["metadata"]["namespace"] == namespace
        }
        return [item for item in newest.values() if fits(item)]

    # Agents.

    async def request(
        self, instance: Instance, method: str, path: str, query: list[tuple[str, str]] | None = None
    ) -> _Response:
        uid, address = instance.instance_id.removeprefix("i-"), dict(query or []).get("address", "")
        self.asked.append((uid, address))
        answer = self.answers.get(uid, lambda _: {"tables": {}})(address)
        if answer == b"unreachable":
            raise AgentUnreachableError("no route to host")
        return _Response(answer if isinstance(answer, bytes) else orjson.dumps(answer))


class _Response:
    status = 200

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.closed = False

    async def iter_any(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), 65536):
            yield self._body[start : start + 65536]

    async def close(self) -> None:
        self.closed = True
