"""Network policies from the real API server, with the provider's own rights."""

from __future__ import annotations

import json
from typing import Any

import orjson
from prometheus_client import CollectorRegistry

from tests.integration.kube.conftest import Provider
from tests.integration.kube.test_rbac import check_allowed
from tests.integration.kube.waiting import running, until
from vk_provider.routing.policies import PolicyRouting
from vk_provider.routing.policytables import PolicyTables

Json = dict[str, Any]


async def apply(provider: Provider, *objects: Json) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    await provider.plane.kubectl_async("apply", "-f", "-", stdin=text)


async def set_address(provider: Provider, namespace: str, name: str, address: str) -> None:
    status = json.dumps({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
    await provider.plane.kubectl_async("patch", "pod", name, "-n", namespace, "--subresource=status", "-p", status)


def pod(name: str, namespace: str, **labels: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "x"}], "nodeName": "policy-node"},
    }


async def text_from(source: PolicyTables, base: str) -> str:
    text = await source.text_from(base)
    return str(orjson.loads(text.frame)["text"]) if text is not None else ""


async def test_a_peer_is_let_in_while_it_and_its_namespace_have_the_labels(provider: Provider, namespace: str) -> None:
    rule = {"from": [{"namespaceSelector": {"matchLabels": {"team": "x"}}, "podSelector": {}}], "ports": [{"port": 80}]}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "in", "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [rule]},
    }
    await apply(provider, policy, pod("web", namespace, app="web"), pod("peer", namespace, app="db"))
    await set_address(provider, namespace, "peer", "10.9.8.7")
    found = await provider.plane.kubectl_async("get", "pod", "web", "-n", namespace, "-o", "json")
    ours = json.loads(found.stdout)
    routing = PolicyRouting(provider.client, CollectorRegistry())
    async with running(routing.run()):
        routing.on_pod("ADDED", ours)
        source = routing.source(ours["metadata"]["uid"], ("10.9.8.1",))
        await until(lambda: source.revision, "the first table")
        first = source.revision
        assert "10.9.8.7" not in await text_from(source, "")
        await provider.plane.kubectl_async("label", "namespace", namespace, "team=x")
        await until(lambda: source.revision != first, "a table with the peer")
        assert "add element inet vk-policy ingress-peers4 { 10.9.8.7 : jump ports-" in await text_from(source, first)
        await provider.plane.kubectl_async("delete", "pod", "peer", "-n", namespace, "--force", "--grace-period=0")
        await until(lambda: source.revision == first, "a table without the peer")
    assert ("watch", "pods") in provider.calls and ("watch", "namespaces") in provider.calls
    check_allowed(provider)
