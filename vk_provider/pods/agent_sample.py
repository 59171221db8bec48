"""Checks a sample of an agent against what its instance can have done and what its pod has. Pure.

`wire.inbound` has validated types, lengths and numbers. What would be taken for the use of CPU and memory is limited by
the instance's capacity; what only adds to the Node's figures is left out where no instance can have reached it; and
what is shown for each container is limited in number, as one short sample would else become a thousand long lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vk_provider.cloud.base import Instance
from vk_provider.errors import AgentProtocolError
from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import STATUS_LISTS
from vk_provider.pods.agent_report import each_once
from vk_provider.wire.cadvisor import COUNTERS, CPU_SECONDS, GAUGES, LABELS, MEMORY_BYTES
from vk_provider.wire.session import StatsMessage

CPU_SLACK = 1.25
"""Tolerance for burstable types and for clocks."""
RATE_SLACK = 100.0
"""A rate over a very short interval may be far above the mean."""
CLOCK_SLACK_S = 300.0
"""The cloud's launch time and our clock may differ."""
MEMORY_SLACK = 2.0
"""Catalogs round an offering's memory down."""
MAX_FAULTS = 10_000_000
"""Page faults a second of one CPU."""
MAX_NETWORK_BYTES = 400_000_000_000
"""A second: EC2's fastest instances have 3,200 Gbit/s."""
MAX_DISK = 1 << 51
"""Bytes of the disks of one instance, or inodes."""
MAX_PROCESSES = 1 << 22
"""Linux' PID_MAX_LIMIT."""
MAX_LABEL = 256
"""Characters of a label in /metrics/cadvisor: a longer one is cut. Paths of cgroups and names of images are shorter."""
MAX_LINES = 256
"""Of one container in /metrics/cadvisor: it has some thirty, and a sandbox eight for each network interface."""
PROBE_TYPES = frozenset({"Liveness", "Readiness", "Startup"})
PROBE_RESULTS = frozenset({"successful", "failed", "unknown"})


@dataclass(frozen=True, slots=True)
class _Limits:
    """What an instance can have reached.

    used:      by parts of a sample: beyond them is a violation
    seconds, bytes: of CPU and memory, for cAdvisor's metrics
    plausible: by parts of a sample: beyond them is left out
    """

    used: Mapping[str, int]
    seconds: float
    bytes: int
    plausible: Mapping[str, Mapping[str, int]]


def accept_stats(
    message: StatsMessage, pod: Json, instance: Instance, cpu_milli: int, memory_bytes: int, now: float
) -> Json:
    """The sample with the reference of its own pod and the spec's containers and volumes only.

    cpu_milli, memory_bytes: what the instance has; now: Unix time. Raises AgentProtocolError for a counter that the
    instance cannot have reached.
    """
    sample: Json = {**message}
    limits = _compute_limits(cpu_milli, memory_bytes, max(0.0, now - instance.launch_time) + CLOCK_SLACK_S)
    stats: Json = sample["pod"]
    parts: list[tuple[str, Json]] = [("node", sample["node"]), ("pod", stats)]
    parts += [(f"container {item['name']}", item) for item in stats.get("containers") or ()]
    for where, document in parts:
        for part in ("cpu", "memory"):
            _check_counters(f"{where} {part}", document.get(part) or {}, limits.used)
    metadata, spec = pod["metadata"], pod["spec"]
    names = {item["name"] for field in STATUS_LISTS.values() for item in spec.get(field) or []}
    sample["podUID"] = metadata["uid"]
    sample["node"] = _leave_out(sample["node"], limits.plausible)
    stats = _leave_out(stats, {"memory": limits.plausible["faults"]})
    sample["pod"] = {**stats, "podRef": {name: metadata[name] for name in ("name", "namespace", "uid")}}
    if stats.get("containers"):
        sample["pod"]["containers"] = each_once(stats["containers"], "name", names)
    if stats.get("volume"):
        sample["pod"]["volume"] = each_once(
            stats["volume"], "name", {item["name"] for item in spec.get("volumes") or ()}
        )
    if "cadvisor" in sample:
        containers = each_once(sample["cadvisor"], "container", {*names, ""})
        sample["cadvisor"] = [_accept_container(item, limits) for item in containers]
    if "probes" in sample:
        sample["probes"] = _accept_probes(sample["probes"], names)
    return sample


def _compute_limits(cpu_milli: int, memory_bytes: int, age_s: float) -> _Limits:
    memory_limit = int(memory_bytes * MEMORY_SLACK)
    cpu_s = age_s * cpu_milli * CPU_SLACK / 1000
    received = dict.fromkeys(("rxBytes", "txBytes", "rxErrors", "txErrors"), int(age_s * MAX_NETWORK_BYTES))
    faults = dict.fromkeys(("pageFaults", "majorPageFaults"), int(cpu_s * MAX_FAULTS))
    disk = ("availableBytes", "capacityBytes", "usedBytes", "inodesFree", "inodes", "inodesUsed")
    return _Limits(
        {
            "usageCoreNanoSeconds": int(cpu_s * 1_000_000_000),
            "usageNanoCores": int(cpu_milli * RATE_SLACK * 1_000_000),
            **dict.fromkeys(("usageBytes", "workingSetBytes", "rssBytes"), memory_limit),
        },
        cpu_s,
        memory_limit,
        {
            "faults": faults,
            "memory": {**faults, "availableBytes": memory_limit},
            "network": received,
            "fs": dict.fromkeys(disk, MAX_DISK),
            "rlimit": dict.fromkeys(("maxpid", "curproc"), MAX_PROCESSES),
        },
    )


def _check_counters(where: str, part: Json, limits: Mapping[str, int]) -> None:
    for name, limit in limits.items():
        value = part.get(name)
        if value is not None and value > limit:
            raise _beyond(f"{where} {name}")


def _beyond(what: str) -> AgentProtocolError:
    return AgentProtocolError(f"the agent broke the protocol: {what} is beyond what its instance can do")


def _leave_out(document: Json, plausible: Mapping[str, Mapping[str, int]]) -> Json:
    """Without the figures beyond their limits."""
    kept = document
    for part, limits in plausible.items():
        figures: Json = document.get(part) or {}
        beyond = {name for name, limit in limits.items() if (figures.get(name) or 0) > limit}
        if beyond:
            kept = {**kept, part: {name: value for name, value in figures.items() if name not in beyond}}
    return kept


def _accept_container(item: Json, limits: _Limits) -> Json:
    """With known metrics and labels only, each pair once, and a limited number of them."""
    kept: list[tuple[str, Mapping[str, str], float]] = []
    seen: set[Any] = set()
    for name, labels, value in item.get("samples") or ():
        limit = limits.seconds if name in CPU_SECONDS else limits.bytes if name in MEMORY_BYTES else value
        if value > limit:
            raise _beyond(f"container {item['container']} {name}")
        own = {label: text[:MAX_LABEL] for label, text in labels.items() if label in LABELS}
        key = (name, *sorted(own.items()))
        if (name in COUNTERS or name in GAUGES) and key not in seen and len(kept) < MAX_LINES:
            seen.add(key)
            kept.append((name, own, value))
    accepted: Json = {name: item[name][:MAX_LABEL] for name in ("container", "id", "name", "image") if name in item}
    return {**accepted, "samples": kept}


def _accept_probes(probes: list[Json], names: set[str]) -> list[Json]:
    seen: set[tuple[str, str, str]] = set()
    kept = []
    for probe in probes:
        key = (probe["container"], probe["probeType"], probe["result"])
        if key[0] in names and key[1] in PROBE_TYPES and key[2] in PROBE_RESULTS and key not in seen:
            seen.add(key)
            kept.append(probe)
    return kept
