"""What the API server makes of objects that it stores, and what it refuses. Pure.

Source: pkg/registry/core/{pod,node}/strategy.go, pkg/apis/core/validation/validation.go and
pkg/apis/core/v1/defaults.go of Kubernetes. Only what a kubelet or its users meet.
"""

from __future__ import annotations

import ipaddress
from http import HTTPStatus

from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json

TERMINAL = ("Succeeded", "Failed")
DEFAULT_GRACE_S = 30
_STATUS_LISTS = (("initContainerStatuses", "initContainers"), ("containerStatuses", "containers"))


def refuse(status: HTTPStatus, reason: str, message: str) -> KubeApiError:
    return KubeApiError(int(status), reason, message)


def prepare_new(resource: str, item: Json) -> None:
    """Defaults of a new object, in place. A status that its writer brings is kept for Nodes only."""
    if resource == "pods":
        spec = item["spec"]
        spec.setdefault("restartPolicy", "Always")
        spec.setdefault("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
        spec.setdefault("serviceAccountName", "default")
        item["status"] = {"phase": "Pending", "qosClass": _qos(spec)}
        item["metadata"]["generation"] = 1
    elif resource == "nodes":
        item.setdefault("spec", {})
        item.setdefault("status", {})
        normalize_status(resource, item["status"])


def _qos(spec: Json) -> str:
    resources = [container.get("resources") or {} for container in spec["containers"]]
    return "Burstable" if any(each.get("requests") or each.get("limits") for each in resources) else "BestEffort"


def normalize_status(resource: str, status: Json) -> None:
    """Fields that are always written, in place."""
    if resource == "pods":
        for condition in status.get("conditions") or ():
            condition.setdefault("lastProbeTime", None)
            condition.setdefault("lastTransitionTime", None)
        for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
            for container in status.get(field) or ():
                for name in ("state", "lastState"):
                    container.setdefault(name, {})
    for name in [name for name, value in status.items() if value in (None, [], "")]:
        del status[name]


def check_new(resource: str, item: Json) -> None:
    """Raise KubeApiError for an object that is refused."""
    name = item["metadata"].get("name")
    if not name:
        raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", "name or generateName is required")
    if resource == "pods" and not item.get("spec", {}).get("containers"):
        raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", "spec.containers: Required value")


def check_status(resource: str, before: Json, after: Json) -> None:
    """Raise KubeApiError for a status that may not follow the one before."""
    if resource != "pods":
        return
    faults = [_addresses(after["status"], field) for field in ("podIPs", "hostIPs")]
    faults += [_transitions(before, after, *fields) for fields in _STATUS_LISTS]
    found = [fault for fault in faults if fault]
    if found:
        name = before["metadata"]["name"]
        raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", f'Pod "{name}" is invalid: {"; ".join(found)}')


def _addresses(status: Json, field: str) -> str:
    addresses = [item["ip"] for item in status.get(field) or ()]
    families = {ipaddress.ip_address(address).version for address in addresses}
    if len(addresses) > len(families):
        return f"status.{field}: Invalid value: may specify no more than one IP for each IP family"
    return ""


def _transitions(before: Json, after: Json, field: str, spec_field: str) -> str:
    """ValidateContainerStateTransition: a container that has ended for good does not run again."""
    policy = before["spec"].get("restartPolicy", "Always")
    if policy == "Always":
        return ""
    specs = {item["name"]: item for item in before["spec"].get(spec_field) or ()}
    now = {item["name"]: item for item in after["status"].get(field) or ()}
    for held in before["status"].get(field) or ():
        ended = held["state"].get("terminated")
        new = now.get(held["name"])
        if ended is None or new is None or new["state"].get("terminated") is not None:
            continue
        if spec_field == "initContainers" and (specs.get(held["name"]) or {}).get("restartPolicy") == "Always":
            continue
        if policy == "OnFailure" and ended.get("exitCode"):
            continue
        return f"status.{field}: Forbidden: may not be transitioned to non-terminated state"
    return ""


def deletion_grace_s(pod: Json, asked: int | None) -> int:
    """podStrategy.CheckGracefulDelete: seconds; 0 deletes at once."""
    if not pod["spec"].get("nodeName") or pod["status"].get("phase") in TERMINAL:
        return 0
    if asked is None:
        return int(pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_S))
    return max(asked, 0)
