"""Small pods and observations for table tests."""

from __future__ import annotations

from typing import Any

from vk_provider.agent.worker.rules.observed import Observation, ObservedContainer, ObservedSandbox, State, order
from vk_provider.agent.worker.rules.spec import container_hash
from vk_provider.jsontypes import Json

SECOND = 1_000_000_000
PROBE: Json = {"exec": {"command": ["true"]}, "periodSeconds": 10}
SANDBOX = ObservedSandbox("sb0", 0, True, created_at_ns=1, ip="10.0.0.3")


def container(name: str, **fields: Any) -> Json:
    return {"name": name, "image": "busybox:1", **fields}


def sidecar(name: str, **fields: Any) -> Json:
    return container(name, restartPolicy="Always", **fields)


def pod(*containers: Json, init: list[Json] | None = None, policy: str = "Always", **spec: Any) -> Json:
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "generation": 1},
        "spec": {
            "restartPolicy": policy,
            "containers": list(containers) or [container("main")],
            **({"initContainers": init} if init else {}),
            **spec,
        },
        "status": {},
    }


def deleted(of: Json, grace_s: int = 30) -> Json:
    metadata = {**of["metadata"], "deletionTimestamp": "2030-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace_s}
    return {**of, "metadata": metadata}


def record(of: Json, state: State, exit_code: int = 0, created: int = 10, **fields: Any) -> ObservedContainer:
    values: Json = {
        "id": f"{of['name']}-{created}",
        "name": of["name"],
        "sandbox_id": "sb0",
        "state": state,
        "created_at_ns": created * SECOND,
        "started_at_ns": created * SECOND,
        "finished_at_ns": (created + 1) * SECOND if state is State.EXITED else 0,
        "exit_code": exit_code,
        "hash": container_hash(of),
        "image": "docker.io/library/busybox:1",
        "image_ref": "docker.io/library/busybox@sha256:1",
    }
    return ObservedContainer(**{**values, **fields})


def running(of: Json, **fields: Any) -> ObservedContainer:
    return record(of, State.RUNNING, **fields)


def exited(of: Json, exit_code: int = 0, **fields: Any) -> ObservedContainer:
    return record(of, State.EXITED, exit_code, **fields)


def observed(*records: ObservedContainer, sandboxes: tuple[ObservedSandbox, ...] = (SANDBOX,)) -> Observation:
    return order(sandboxes, records)
