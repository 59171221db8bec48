"""Services, EndpointSlices and a policy in the real API server. No controller has a part in them: nothing has a
selector of Services."""

from __future__ import annotations

import sys
import time
from functools import partial

from tests.bench.api import Api, run_all
from tests.service_objects import make_endpoint, make_slice
from vk_provider.jsontypes import Json

PORT = 8080
TARGET = "target"
_SERVICES, _SLICES = "/api/v1/namespaces/{}/services", "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
_POLICIES = "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies"
_POLICY = "open-within"
_AT_ONCE = 16
"""Services: the API server takes their addresses one by one, and a request that waits for 34 s is lost."""


async def add_target(api: Api, address: str) -> str:
    """A Service with one endpoint; its address."""
    made = await api.call("POST", _SERVICES.format("default"), _build_service(TARGET))
    await api.call("POST", _SLICES.format("default"), _target_slice(address))
    return str(made["spec"]["clusterIP"])


async def remove_target(api: Api) -> None:
    await api.call("DELETE", f"{_SERVICES.format('default')}/{TARGET}")
    await api.call("DELETE", f"{_SLICES.format('default')}/{TARGET}-x")


async def move_target(api: Api, address: str) -> None:
    """The Service has this one endpoint from now on."""
    await api.call("PUT", f"{_SLICES.format('default')}/{TARGET}-x", _target_slice(address))


async def add_services(api: Api, namespace: str, count: int) -> None:
    """Services s1, s2 ... with two endpoints each, at addresses that nobody has."""
    if not await api.exists(f"/api/v1/namespaces/{namespace}"):
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await api.call("POST", "/api/v1/namespaces", made)
    started = time.perf_counter()
    await run_all((partial(_add_one, api, namespace, number) for number in range(1, count + 1)), _AT_ONCE)
    if count >= 1000:
        print(f"  {count} Services made in {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)


async def _add_one(api: Api, namespace: str, number: int) -> None:
    name, (high, low) = f"s{number}", divmod(number, 250)
    ends = (make_endpoint(f"10.251.{high}.{low + 1}", ""), make_endpoint(f"10.252.{high}.{low + 1}", ""))
    await api.call("POST", _SERVICES.format(namespace), _build_service(name))
    await api.call("POST", _SLICES.format(namespace), _in_namespace(make_slice(name, *ends), namespace))


async def remove_services(api: Api, namespace: str) -> None:
    await api.call("DELETE", _SERVICES.format(namespace))
    await api.call("DELETE", _SLICES.format(namespace))


async def add_policy(api: Api) -> None:
    """One for all pods of the namespace default: they hear one another, and nobody else."""
    rule = {"from": [{"podSelector": {}}]}
    spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule]}
    item = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": _POLICY}, "spec": spec}
    await api.call("POST", _POLICIES.format("default"), item)


async def remove_policy(api: Api) -> None:
    await api.call("DELETE", f"{_POLICIES.format('default')}/{_POLICY}")


def _build_service(name: str) -> Json:
    port = {"name": "", "protocol": "TCP", "port": PORT}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [port]}}


def _target_slice(address: str) -> Json:
    return _in_namespace(make_slice(TARGET, make_endpoint(address, "")), "default")


def _in_namespace(item: Json, namespace: str) -> Json:
    item["metadata"]["namespace"] = namespace
    return item
