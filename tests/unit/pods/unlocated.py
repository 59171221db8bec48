"""Pods that a node first sees when they are deleted or have ended, and whose containers no runtime knows; and a status
in words, as `unlocated.json` has it.

`unlocated.json` was recorded from k8s.io/kubernetes v1.37.2: SyncTerminatingPod and SyncTerminatedPod (the second alone
of pods with a terminal phase) with an empty PodStatus of the runtime, in a kubelet of its own tests' newTestKubelet and
a real prober.Manager. Addresses are left out: a kubelet without a sandbox forgets them.
"""

from __future__ import annotations

from typing import Any

from vk_provider.jsontypes import Json

THEN = "2026-01-01T00:00:00Z"
POLICIES = ("Always", "OnFailure", "Never")
INITIALIZING = "PodInitializing"


def runs(name: str, restarts: int = 0) -> Json:
    return _container(name, {"running": {"startedAt": THEN}}, ready=True, started=True, restartCount=restarts)


def ended(name: str, code: int, **fields: Any) -> Json:
    state = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": THEN, "finishedAt": THEN}
    return _container(name, {"terminated": {**state, "containerID": f"containerd://{name}"}}, **fields)


def waits(name: str, reason: str = "ContainerCreating", **fields: Any) -> Json:
    return _container(name, {"waiting": {"reason": reason}}, **{"imageID": "", "containerID": "", **fields})


def crashes(name: str) -> Json:
    return waits(name, "CrashLoopBackOff", restartCount=2, lastState=ended(name, 3)["state"])


def _container(name: str, state: Json, **fields: Any) -> Json:
    status = {"name": name, "image": "img", "imageID": "img@sha", "containerID": f"containerd://{name}"}
    return {**status, "ready": False, "started": False, "restartCount": 0, "state": state, **fields}


def told(phase: str, regular: list[Json], init: list[Json] | None = None, ready: str = "False", **fields: Any) -> Json:
    """A status with all conditions."""
    why = {"reason": "ContainersNotReady", "message": "containers with unready status: [a]"}
    kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    conditions = [
        {
            "type": kind,
            "status": ready if "Ready" in kind[-5:] else "True",
            "lastTransitionTime": THEN,
            "observedGeneration": 1,
            **(why if ready == "False" and kind.endswith("Ready") else {}),
        }
        for kind in kinds
    ]
    status: Json = {"phase": phase, "containerStatuses": regular, "conditions": conditions, "startTime": THEN, **fields}
    return {**status, "initContainerStatuses": init} if init is not None else status


_NOT_YET = [waits("a", INITIALIZING), waits("b", INITIALIZING)]
_BOTH, _GOOD, _BAD = [runs("a", 1), runs("b")], [ended("a", 0), ended("b", 0)], [ended("a", 3), ended("b", 0)]
_DONE = ended("i", 0, ready=True)
SHORT = {
    "The container could not be located when the pod was terminated": "UNLOCATED",
    "The container could not be located when the pod was deleted.  The container used to be Running": "USED TO RUN",
}
"""How `unlocated.json` writes the kubelet's messages."""
REJECTED = {"phase": "Failed", "reason": "OutOfcpu", "message": "Pod was rejected: no", "startTime": THEN}
WORDS = {"reason": "Odd", "message": "words"}

DELETED: dict[str, Json] = {
    "nothing": {"phase": "Pending"},
    "creating": told("Pending", [waits("a"), waits("b")]),
    "pull fails": told("Pending", [waits("a", "ImagePullBackOff"), waits("b")]),
    "one runs": told("Pending", [runs("a"), waits("b", "ImagePullBackOff")]),
    "both run": told("Running", _BOTH, ready="True"),
    "one succeeded": told("Running", [ended("a", 0), runs("b")]),
    "both succeeded": told("Running", _GOOD),
    "one failed": told("Running", _BAD),
    "crash loop": told("Running", [crashes("a"), runs("b")]),
    "crash loop, one succeeded": told("Running", [crashes("a"), ended("b", 0)]),
    "one is missing": told("Running", [runs("a")]),
    "one succeeded, one is missing": told("Running", [ended("a", 0)]),
}
"""Statuses of pods that are being deleted."""

DELETED_WITH_INIT: dict[str, Json] = {
    "nothing": {"phase": "Pending"},
    "init waits": told("Pending", _NOT_YET, [waits("i", INITIALIZING), waits("s", INITIALIZING)]),
    "init runs": told("Pending", _NOT_YET, [runs("i"), waits("s", INITIALIZING)]),
    "init in a crash loop": told("Pending", _NOT_YET, [crashes("i"), waits("s", INITIALIZING)]),
    "init done": told("Pending", _NOT_YET, [_DONE, waits("s", INITIALIZING)]),
    "sidecar runs": told("Pending", _NOT_YET, [_DONE, runs("s")]),
    "init failed": told("Pending", _NOT_YET, [ended("i", 3), waits("s", INITIALIZING)]),
    "all run": told("Running", _BOTH, [_DONE, runs("s")], ready="True"),
    "both succeeded": told("Running", _GOOD, [_DONE, runs("s")]),
    "all succeeded": told("Running", _GOOD, [_DONE, ended("s", 0)]),
}
"""With the init container i and the sidecar s."""

ENDED: dict[str, Json] = {
    "rejected": REJECTED,
    "nothing": {"phase": "Succeeded"},
    "both run": told("Failed", _BOTH, ready="True", **WORDS),
    "both run, succeeded": told("Succeeded", _BOTH, ready="True"),
    "both succeeded": told("Succeeded", _GOOD),
    "one failed": told("Failed", _BAD),
    "one failed, succeeded": told("Succeeded", _BAD),
    "creating": told("Failed", [waits("a"), waits("b")]),
    "crash loop": told("Failed", [crashes("a"), runs("b")]),
}
"""Statuses with a terminal phase."""

ENDED_WITH_INIT: dict[str, Json] = {
    "rejected": REJECTED,
    "init failed": told("Failed", _NOT_YET, [ended("i", 3), waits("s", INITIALIZING)]),
    "init waits": told("Failed", _NOT_YET, [waits("i", INITIALIZING), waits("s", INITIALIZING)]),
    "init runs": told("Failed", _NOT_YET, [runs("i"), waits("s", INITIALIZING)]),
    "all run": told("Failed", _BOTH, [_DONE, runs("s")], ready="True"),
    "all succeeded": told("Succeeded", _GOOD, [_DONE, ended("s", 0)]),
}


def make_pod(status: Json, policy: str, *, init: bool, deleted: bool) -> Json:
    resources = {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}
    mount = {"name": "v", "mountPath": "/v", "readOnly": True}
    containers = [{"name": "b", "image": "img", "resources": resources, "volumeMounts": [mount]}]
    spec: Json = {"restartPolicy": policy, "containers": [*containers, {"name": "a", "image": "img"}]}
    if init:
        sidecar = {"name": "s", "image": "img", "restartPolicy": "Always"}
        spec["initContainers"] = [{"name": "i", "image": "img"}, sidecar]
    metadata: Json = {"name": "p", "namespace": "d", "uid": "u", "generation": 2 if deleted else 1}
    if deleted:
        metadata |= {"deletionTimestamp": THEN, "deletionGracePeriodSeconds": 30}
    return {"metadata": metadata, "spec": {**spec, "nodeName": "n"}, "status": status}


def all_cases() -> dict[str, tuple[Json, bool]]:
    """Name -> (pod, whether it has a terminal phase)."""
    groups = (
        ("deleted", DELETED, False, True, False),
        ("deleted, init", DELETED_WITH_INIT, True, True, False),
        ("ended", ENDED, False, False, True),
        ("ended, deleted", ENDED, False, True, True),
        ("ended, init", ENDED_WITH_INIT, True, False, True),
        ("ended, init, deleted", ENDED_WITH_INIT, True, True, True),
    )
    return {
        f"{group}: {name}, {policy}": (make_pod(status, policy, init=init, deleted=deleted), is_ended)
        for group, table, init, deleted, is_ended in groups
        for name, status in table.items()
        for policy in POLICIES
    }


def describe(status: Json) -> list[str]:
    """Everything of a status that a kubelet computes but addresses, in lines. Times are `then` or new."""
    words = " ".join(str(status[name]) for name in ("phase", "reason", "message") if status.get(name))
    lines = [f"{words} generation {status.get('observedGeneration') or 0}", _describe_resources(status)]
    for item in sorted(status.get("conditions") or [], key=lambda each: each["type"]):
        since = "then" if item.get("lastTransitionTime") == THEN else "new"
        why = " ".join(str(item[name]) for name in ("reason", "message") if item.get(name))
        lines.append(f"{item['type']} {item['status']} {item.get('observedGeneration')} {since} {why}".rstrip())
    for field in ("initContainerStatuses", "containerStatuses"):
        lines += [_describe_container(item) for item in status.get(field) or []]
    return lines


def _describe_resources(status: Json) -> str:
    return f"resources {status.get('resources') or {}} allocated {status.get('allocatedResources') or {}}"


def _describe_container(item: Json) -> str:
    flags = "".join(f" {name}" for name in ("ready", "started") if item.get(name))
    mounts = [f"{each['mountPath']} {each.get('recursiveReadOnly')}" for each in item.get("volumeMounts") or []]
    states = [_describe_state(item.get(name) or {}) for name in ("state", "lastState")]
    text = " ".join(item[name] for name in ("name", "image", "imageID", "containerID") if item.get(name))
    return f"{text} restarts {item.get('restartCount') or 0}{flags} {mounts} now {states[0]} before {states[1]}"


def _describe_state(state: Json) -> str:
    for kind, value in state.items():
        if value is not None:
            shown = [
                f"{name} {SHORT.get(text, text)}" for name, text in sorted(value.items()) if text not in (None, "")
            ]
            return f"{kind} ({', '.join(shown)})"
    return "nothing"
