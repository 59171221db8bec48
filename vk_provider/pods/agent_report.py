"""Checks a status of an agent against what the provider knows by itself, after the schema of the messages. Pure.

`wire.inbound` has validated types, lengths and numbers. Here container names are limited to those of the pod's spec,
and addresses are replaced by the cloud's. Samples: agent_sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vk_provider.cloud.base import Instance
from vk_provider.jsontypes import Json
from vk_provider.podmodel.conditions import find_end, with_end
from vk_provider.podmodel.onecopy import share_strings
from vk_provider.podmodel.spec import STATUS_LISTS
from vk_provider.pods.provider_status import INSTANCE_CONDITION
from vk_provider.pods.status_patch import OWNED_CONDITIONS

AGENT_CONDITIONS = OWNED_CONDITIONS - {INSTANCE_CONDITION}


def accept_status(status: Mapping[str, Any], pod: Json, instance: Instance | None) -> Json:
    """The part of the status that is accepted: statuses of the spec's containers, each once; conditions that a kubelet
    writes; addresses by the cloud, if the agent reports any."""
    accepted: Json = {name: share_strings(value) for name, value in status.items() if value is not None}
    for field, spec_field in STATUS_LISTS.items():
        if field in accepted:
            names = {container["name"] for container in pod["spec"].get(spec_field) or []}
            accepted[field] = each_once(accepted[field], "name", names)
    if "conditions" in accepted:
        accepted["conditions"] = each_once(accepted["conditions"], "type", AGENT_CONDITIONS)
    host_ips = instance.host_ips if instance is not None else ()
    pod_ips = instance.pod_ips if instance is not None else ()
    _set_addresses(accepted, "hostIP", host_ips)
    _set_addresses(accepted, "podIP", host_ips if pod["spec"].get("hostNetwork") else pod_ips)
    return accepted


def keep_end(status: Json, before: Json | None) -> Json:
    """`status` with the phase of `before`, the agent's last one, where that was terminal: a pod that has ended does not
    run again (generateAPIPodStatus in pkg/kubelet/kubelet_pods.go: transitions out of it are not allowed)."""
    ended = find_end(before or {})
    return status if ended is None else with_end(status, ended)


def each_once(items: Iterable[Json], key: str, allowed: Iterable[str]) -> list[Json]:
    """The first item of each allowed key."""
    left = set(allowed)
    kept = []
    for item in items:
        if item[key] in left:
            left.remove(item[key])
            kept.append(item)
    return kept


def _set_addresses(status: Json, field: str, addresses: tuple[str, ...]) -> None:
    """Replace what was reported by `addresses`; remove both fields when the cloud knows none."""
    reported = status.pop(field, None) or status.get(f"{field}s")
    status.pop(f"{field}s", None)
    if reported and addresses:
        status[field], status[f"{field}s"] = addresses[0], [{"ip": address} for address in addresses]
