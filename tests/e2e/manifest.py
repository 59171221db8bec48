"""Manifests of the tests, small and complete."""

from __future__ import annotations

from typing import Any

from vk_provider.jsontypes import Json

TOLERATIONS = [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]
SLEEP = 'trap "exit 0" TERM; while true; do sleep 1 & wait; done'
"""A container that runs until it is told to end."""


def container(image: str, script: str = SLEEP, name: str = "main", **fields: Any) -> Json:
    """A container that runs a shell script."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        **fields,
    }


def pod_spec(*containers: Json, **fields: Any) -> Json:
    return {
        "terminationGracePeriodSeconds": 2,
        "tolerations": TOLERATIONS,
        "containers": list(containers),
        **fields,
    }


def pod(name: str, *containers: Json, labels: dict[str, str] | None = None, **fields: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {"app": name}},
        "spec": pod_spec(*containers, **fields),
    }


def deployment(name: str, replicas: int, *containers: Json, **fields: Any) -> Json:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(*containers, **fields)},
        },
    }


def job(name: str, *containers: Json, **fields: Any) -> Json:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": pod_spec(*containers, restartPolicy="Never", **fields)}},
    }


def service(name: str, port: int) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": port}]},
    }


def config_map(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def network_policy(name: str, app: str, **spec: Any) -> Json:
    """A NetworkPolicy for the pods with that label `app`."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {**pods_of(app), **spec},
    }


def pods_of(app: str) -> Json:
    """A peer of a NetworkPolicy: the pods of its namespace with that label `app`."""
    return {"podSelector": {"matchLabels": {"app": app}}}
