"""What every endpoint of one Node's kubelet API shares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry

from vk_provider.agentclient.base import AgentConnector
from vk_provider.aiokit.guard import contained
from vk_provider.cloud.base import Instance
from vk_provider.jsontypes import Json
from vk_provider.kubelet.connection_pool import ConnectionPool
from vk_provider.kubelet.provider import BillSource, Explainer, PodHandle, PodSource

GO_NOT_FOUND = "404 page not found\n"


@dataclass(frozen=True, slots=True)
class ComponentInfo:
    """What the component tells of itself, as each of Kubernetes' (k8s.io/component-base: configz, zpages, healthz).

    configuration: served by /configz as `kubeletconfig`
    flags:         served by /flagz
    version:       served by /statusz
    started_at:    seconds since the epoch
    is_healthy:    whether the provider's loops make progress (/healthz syncloop)
    """

    configuration: Json = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    started_at: float = 0.0
    is_healthy: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class KubeletApi:
    """One per Node.

    idle_s:    idle limit of upgraded streams
    explainer: answers /net/explain, which is not served without one
    bills:     answers /bill, which is not served without one
    streams:   tasks that hold an open upgraded stream
    """

    node: str
    source: PodSource
    connector: AgentConnector
    registry: CollectorRegistry
    idle_s: float
    component: ComponentInfo = field(default_factory=ComponentInfo)
    explainer: Explainer | None = None
    bills: BillSource | None = None
    streams: set[asyncio.Task[object]] = field(init=False, default_factory=set)
    connections: ConnectionPool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "connections", ConnectionPool(self.connector))

    def find_pod(self, request: web.Request) -> PodHandle | None:
        """The pod named in the path, without regard to the UID in it. Only pods of this Node: the caller was authorized
        for this Node alone, and the process may serve others."""
        found = self.source.find(request.match_info["namespace"], request.match_info["pod"], None)
        if found is None or found.pod["spec"].get("nodeName") != self.node:
            return None
        return found


def full_name(pod: Json) -> str:
    """The kubelet's name of a pod in messages: name_namespace."""
    return f"{pod['metadata']['name']}_{pod['metadata']['namespace']}"


def encode_each(documents: Iterable[object], what: str) -> Iterator[bytes]:
    """JSON of each; one that has none is logged as `what` and left out, so that it is not missed by all others."""
    for document in documents:
        text = b""
        with contained(what):
            text = orjson.dumps(document)
        if text:
            yield text


def running_instance(handle: PodHandle, uid: str | None) -> Instance | None:
    """The instance that answers for the pod, unless the path asks for another pod of the same name."""
    if uid and handle.pod["metadata"].get("uid") != uid:
        return None
    return handle.instance


def require_get(request: web.Request) -> None:
    """Raises the kubelet's 405 of routes that are GET only."""
    if request.method != "GET":
        raise web.HTTPMethodNotAllowed(request.method, ["GET"], text="Method Not Allowed")
