"""The cluster's Services: one informer for the environment variables of pods and for whoever else follows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Required, TypedDict

import orjson
from cachetools import LRUCache

from vk_provider.jsontypes import Json
from vk_provider.kube.answers import reader_of
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import DELETED, Informer, OnEvent, StoreOptions, key_by_name
from vk_provider.kube.paths import SERVICES
from vk_provider.serviceproxy.service import PROXY_NAME_LABEL

MASTER = ("default", "kubernetes")
"""Namespace and name of the API server's Service: in every environment (a kubelet's masterServiceNamespace)."""
_GIVEN = 256
"""Namespaces whose Services are kept as objects, for their pods."""
_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
_SPEC = (
    "type",
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "externalIPs",
    "loadBalancerSourceRanges",
    "sessionAffinity",
    "sessionAffinityConfig",
    "internalTrafficPolicy",
    "externalTrafficPolicy",
    "healthCheckNodePort",
)
_PORT = ("name", "protocol", "port", "nodePort")


def trim_service(service: Json) -> Json:
    """Keep what the environment variables and serviceproxy need."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    kept: Json = {
        "metadata": _pick(metadata, _METADATA),
        "spec": {**_pick(spec, _SPEC), "ports": [_pick(port, _PORT) for port in spec.get("ports") or []]},
    }
    labels = metadata.get("labels") or {}
    if PROXY_NAME_LABEL in labels:
        kept["metadata"]["labels"] = {PROXY_NAME_LABEL: labels[PROXY_NAME_LABEL]}
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress")
    if ingress:
        kept["status"] = {"loadBalancer": {"ingress": [_pick(item, ("ip", "ipMode")) for item in ingress]}}
    return kept


class _Metadata(TypedDict, total=False):
    name: str
    namespace: str
    uid: str
    resourceVersion: str
    creationTimestamp: str
    labels: dict[str, str] | None


class _Port(TypedDict, total=False):
    name: str
    protocol: str
    port: int
    nodePort: int


class _Spec(TypedDict, total=False):
    type: str
    clusterIP: str
    clusterIPs: list[str]
    ipFamilies: list[str]
    externalIPs: list[str]
    loadBalancerSourceRanges: list[str]
    sessionAffinity: str
    sessionAffinityConfig: Json
    internalTrafficPolicy: str
    externalTrafficPolicy: str
    healthCheckNodePort: int
    ports: Required[list[_Port]]


class _Service(TypedDict, total=False):
    metadata: Required[_Metadata]
    spec: Required[_Spec]
    status: Json


read_listed_service = reader_of(_Service, trim_service)
"""As `trim_service`; another one, such as an ExternalName without ports, is decoded as a whole and trimmed."""


def _pick(item: Json, names: Iterable[str]) -> Json:
    return {name: item[name] for name in names if name in item}


class _Given:
    """What the pods of a namespace are given: the same objects, since each pod's are kept while it runs. entries: None
    while they are not known."""

    def __init__(self) -> None:
        self.entries: list[Json] | None = None
        self._decoded: dict[str, Json] = {}

    def take(self, texts: Iterable[str]) -> list[Json]:
        """Those that were among the last ones stay the same object, which makes it cheap to compare."""
        self._decoded = {text: self._decoded.get(text) or orjson.loads(text) for text in texts}
        self.entries = list(self._decoded.values())
        return self.entries


class ServiceEnvironment:
    """Services with a ClusterIP by namespace."""

    def __init__(self, client: KubeClient) -> None:
        self._on_change: list[Callable[[str], None]] = []
        self._followers: list[OnEvent] = []
        self._by_namespace: dict[str, dict[str, str]] = {}
        self._given: LRUCache[str, _Given] = LRUCache(_GIVEN)
        self._informer = Informer(
            client,
            SERVICES,
            None,
            self._apply,
            store=StoreOptions(keep=False, trim=trim_service, key=key_by_name, read=read_listed_service),
        )

    @property
    def synced(self) -> asyncio.Event:
        return self._informer.synced

    @property
    def informer(self) -> Informer:
        return self._informer

    def follow(self, on_event: OnEvent) -> None:
        """Pass on every event of the informer, trimmed by `trim_service`. Before `run`."""
        self._followers.append(on_event)

    def on_change(self, call: Callable[[str], None]) -> None:
        """Call it with the namespace after the first list, when one of its Services changed; "" stands for all."""
        self._on_change.append(call)

    async def run(self) -> None:
        await self._informer.run()

    def entries(self, pod: Json) -> list[Json] | None:
        """Services for a pod's environment (wire.session.PodMessage): those of its namespace (unless service links are
        off), and default/kubernetes always; sorted by name (kubelet getServiceEnvVarMap). None before the first list.
        Shared with other pods: not to be changed.
        """
        if not self.synced.is_set():
            return None
        namespace = pod["metadata"]["namespace"]
        links = (pod.get("spec") or {}).get("enableServiceLinks", True) is not False
        key = namespace if links else ""
        given = self._given.get(key)
        if given is None:
            given = self._given[key] = _Given()
        return given.take(self._choose(key)) if given.entries is None else given.entries

    def _choose(self, namespace: str) -> list[str]:
        chosen = dict(self._by_namespace.get(namespace) or {})
        master = (self._by_namespace.get(MASTER[0]) or {}).get(MASTER[1])
        if master is not None:
            chosen.setdefault(MASTER[1], master)
        return [chosen[name] for name in sorted(chosen)]

    def _forget_given(self, namespace: str) -> None:
        """namespace: "" for all."""
        for key in [namespace] if namespace else list(self._given):
            if key in self._given:
                self._given[key].entries = None

    def _apply(self, kind: str, item: Json) -> None:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        services = self._by_namespace.setdefault(namespace, {})
        before = services.get(name)
        entry = _entry(item) if kind != DELETED else None
        if entry is None:
            services.pop(name, None)
            if not services:
                del self._by_namespace[namespace]
        else:
            services[name] = entry
        if before != entry:
            concerned = "" if (namespace, name) == MASTER else namespace
            self._forget_given(concerned)
            if self._informer.synced.is_set():
                for call in self._on_change:
                    call(concerned)
        for follower in self._followers:
            follower(kind, item)


def _entry(item: Json) -> str | None:
    """Encoded, in a fourth of the memory: a cluster has thousands, of which a pod needs a few. None when it has no
    ClusterIP."""
    metadata, spec = item["metadata"], item["spec"]
    if spec.get("clusterIP", "") in ("", "None"):
        return None
    entry = {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "clusterIP": spec["clusterIP"],
        "ports": [_entry_port(port) for port in spec["ports"]],
    }
    return orjson.dumps(entry).decode()  # the bytes have room for a kilobyte


def _entry_port(port: Json) -> dict[str, Any]:
    return {"name": port.get("name", ""), "port": port["port"], "protocol": port.get("protocol", "TCP")}
