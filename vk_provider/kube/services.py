"""The cluster's Services for the environment variables of pods: name, ClusterIP, ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vk_provider.jsontypes import Json
from vk_provider.kube.client import KubeClient
from vk_provider.kube.informer import Informer, key_by_name
from vk_provider.kube.paths import SERVICES


def trim_service(service: Json) -> Json:
    """Keep only what the environment variables need."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    ports = [
        {"name": port.get("name", ""), "port": port["port"], "protocol": port.get("protocol", "TCP")}
        for port in spec.get("ports") or []
    ]
    return {
        "metadata": {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")},
        "entry": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "clusterIP": spec.get("clusterIP", ""),
            "ports": ports,
        },
    }


class ServiceIndex:
    """Services with a ClusterIP by namespace. on_change(namespace) after the first list, when one of them changed."""

    def __init__(self, client: KubeClient, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._by_namespace: dict[str, dict[str, Json]] = {}
        self._informer = Informer(client, SERVICES, None, self._apply, keep=False, trim=trim_service, key=key_by_name)

    @property
    def synced(self) -> asyncio.Event:
        return self._informer.synced

    @property
    def informer(self) -> Informer:
        return self._informer

    async def run(self) -> None:
        await self._informer.run()

    def entries(self, namespace: str, service_links: bool = True) -> list[Json]:
        """Services for a pod's environment: those of its namespace (unless service links are off), and
        default/kubernetes always; sorted by name (kubelet getServiceEnvVarMap)."""
        chosen = dict(self._by_namespace.get(namespace) or {}) if service_links else {}
        master = (self._by_namespace.get("default") or {}).get("kubernetes")
        if master is not None and "kubernetes" not in chosen:
            chosen["kubernetes"] = master
        return [chosen[name] for name in sorted(chosen)]

    def _apply(self, kind: str, item: Json) -> None:
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        services = self._by_namespace.setdefault(namespace, {})
        before = services.get(name)
        entry = item.get("entry")
        if kind == "DELETED" or entry is None or entry["clusterIP"] in ("", "None"):
            services.pop(name, None)
            if not services:
                del self._by_namespace[namespace]
        else:
            services[name] = entry
        if self._informer.synced.is_set() and before != (self._by_namespace.get(namespace) or {}).get(name):
            self._on_change(namespace)
