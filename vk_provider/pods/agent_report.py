"""Checks what an agent reports against what the provider knows by itself, after the schema of the messages. Pure.

`wire.inbound` has validated types, lengths and numbers. Here container names are limited to those of the pod's spec,
addresses are replaced by the cloud's, and counters are limited by the instance's capacity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vk_provider.cloud.base import Instance
from vk_provider.errors import AgentProtocolError
from vk_provider.jsontypes import Json
from vk_provider.podmodel.conditions import find_end, with_end
from vk_provider.podmodel.onecopy import share_strings
from vk_provider.podmodel.spec import STATUS_LISTS
from vk_provider.pods.provider_status import INSTANCE_CONDITION
from vk_provider.pods.status_patch import OWNED_CONDITIONS
from vk_provider.wire.session import StatsMessage

AGENT_CONDITIONS = OWNED_CONDITIONS - {INSTANCE_CONDITION}
CPU_SLACK = 1.25
"""Tolerance for burstable types and for clocks."""
RATE_SLACK = 100.0
"""A rate over a very short interval may be far above the mean."""
CLOCK_SLACK_S = 300.0
"""The cloud's launch time and our clock may differ."""
MEMORY_SLACK = 2.0
"""Catalogs round an offering's memory down."""


def accept_status(status: Mapping[str, Any], pod: Json, instance: Instance | None) -> Json:
    """The part of the status that is accepted: statuses of the spec's containers, each once; conditions that a kubelet
    writes; addresses by the cloud, if the agent reports any."""
    accepted: Json = {name: share_strings(value) for name, value in status.items() if value is not None}
    for field, spec_field in STATUS_LISTS.items():
        if field in accepted:
            names = {container["name"] for container in pod["spec"].get(spec_field) or []}
            accepted[field] = _each_once(accepted[field], "name", names)
    if "conditions" in accepted:
        accepted["conditions"] = _each_once(accepted["conditions"], "type", AGENT_CONDITIONS)
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


def _each_once(items: Iterable[Json], key: str, allowed: Iterable[str]) -> list[Json]:
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


def accept_stats(
    message: StatsMessage, pod: Json, instance: Instance, cpu_milli: int, memory_bytes: int, now: float
) -> Json:
    """The sample with the reference of its own pod and the spec's containers only.

    cpu_milli, memory_bytes: what the instance has; now: Unix time. Raises AgentProtocolError for a counter that the
    instance cannot have reached.
    """
    sample: Json = {**message}
    age_s = max(0.0, now - instance.launch_time) + CLOCK_SLACK_S
    memory_limit = int(memory_bytes * MEMORY_SLACK)
    limits = {
        "usageCoreNanoSeconds": int(age_s * cpu_milli * CPU_SLACK * 1_000_000),
        "usageNanoCores": int(cpu_milli * RATE_SLACK * 1_000_000),
        "usageBytes": memory_limit,
        "workingSetBytes": memory_limit,
        "rssBytes": memory_limit,
    }
    stats: Json = sample["pod"]
    parts: list[tuple[str, Json]] = [("node", sample["node"]), ("pod", stats)]
    parts += [(f"container {item['name']}", item) for item in stats.get("containers") or ()]
    for where, document in parts:
        for part in ("cpu", "memory"):
            _check_counters(f"{where} {part}", document.get(part) or {}, limits)
    metadata, spec = pod["metadata"], pod["spec"]
    names = {item["name"] for field in STATUS_LISTS.values() for item in spec.get(field) or []}
    sample["podUID"] = metadata["uid"]
    sample["pod"] = {**stats, "podRef": {name: metadata[name] for name in ("name", "namespace", "uid")}}
    if stats.get("containers"):
        sample["pod"]["containers"] = _each_once(stats["containers"], "name", names)
    if "cadvisor" in sample:
        sample["cadvisor"] = _each_once(sample["cadvisor"], "container", {*names, ""})
    if "probes" in sample:
        sample["probes"] = [probe for probe in sample["probes"] if probe["container"] in names]
    return sample


def _check_counters(where: str, part: Json, limits: Mapping[str, int]) -> None:
    for name, limit in limits.items():
        value = part.get(name)
        if value is not None and value > limit:
            raise AgentProtocolError(f"the agent broke the protocol: {where} {name} is beyond what its instance can do")
