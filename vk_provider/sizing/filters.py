"""The named filters of a selection, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vk_provider.cloud.base import Offering, OfferingKey
from vk_provider.podmodel.gpus import GPU
from vk_provider.sizing.index import Bits, OfferingIndex, Thresholds
from vk_provider.sizing.need import Need, format_cpu, format_memory
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.requirement import (
    ARCHITECTURE,
    CAPACITY_TYPE,
    GPU_NAME,
    INSTANCE_FAMILY,
    INSTANCE_TYPE,
    LABELS,
    ZONE,
    Expression,
    Requirements,
)

AVAILABILITY = "availability"
_NAMES = {
    ARCHITECTURE: "architecture",
    INSTANCE_TYPE: "instance type",
    INSTANCE_FAMILY: "instance family",
    ZONE: "zone",
    CAPACITY_TYPE: "capacity type",
    GPU_NAME: "GPU",
}
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Filter:
    """keeps: which offerings pass; explain: (offerings before the filter) -> why none of them passed."""

    name: str
    keeps: Callable[[], Bits]
    explain: Callable[[Bits], str]


def build_filters(
    index: OfferingIndex,
    need: Need,
    requirements: Requirements,
    unavailable: frozenset[OfferingKey],
    preferences: Preferences,
    architectures: tuple[str, ...],
) -> list[Filter]:
    """All that the pod and its Node ask for. architectures: those of the pod's images, empty when not known."""
    filters = []
    for label in LABELS:
        expressions = tuple(e for e in requirements.always if e.label == label)
        allowed = _allowed(label, requirements, preferences, architectures)
        if expressions or allowed:
            filters.append(_build_label_filter(index, label, expressions, allowed))
    if requirements.any_of:
        filters.append(_build_affinity_filter(index, requirements))
    if index.metal and not (requirements.names(INSTANCE_TYPE) or requirements.names(INSTANCE_FAMILY)):
        filters.append(
            Filter(
                "bare metal",
                lambda: index.everything & ~index.metal,
                lambda left: "only bare metal is left, which is launched where its type is named",
            )
        )
    filters += _build_least_filters(index, need, requirements)
    filters.append(
        Filter(
            AVAILABILITY,
            lambda: index.everything & ~index.named(unavailable),
            lambda left: f"the cloud has no capacity for {_list(index, left)} now",
        )
    )
    return filters


def _allowed(
    label: str, requirements: Requirements, preferences: Preferences, architectures: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """Lists of values, each of which must have that of the offering; what the pod asks for replaces defaults."""
    lists = {
        ARCHITECTURE: preferences.architectures,
        INSTANCE_TYPE: preferences.instance_types,
        ZONE: preferences.zones,
    }
    found = [lists[label]] if lists.get(label) else []
    if not requirements.names(label):
        if label == CAPACITY_TYPE:
            found.append(preferences.capacity_types)
        if label == ARCHITECTURE and (architectures or preferences.default_architecture):
            found.append(architectures or (preferences.default_architecture,))
    return tuple(values for values in found if values)


def _build_label_filter(
    index: OfferingIndex, label: str, expressions: Sequence[Expression], allowed: Sequence[tuple[str, ...]]
) -> Filter:
    """The requirements on one label."""

    def keeps() -> Bits:
        found = index.everything
        for expression in (*expressions, *(Expression(label, "In", values, True) for values in allowed)):
            found &= index.matching(expression)
        return found

    def explain(left: Bits) -> str:
        wanted = [str(e) for e in expressions]
        wanted += [f"this node allows {', '.join(values)}" for values in allowed]
        found = [value for value in index.values(label, left) if value]
        more = f" and {len(found) - 20} more" if len(found) > 20 else ""
        return f"{' and '.join(wanted)}; there is {', '.join(found[:20]) or 'nothing'}{more}"

    return Filter(_NAMES[label], keeps, explain)


def _build_affinity_filter(index: OfferingIndex, requirements: Requirements) -> Filter:
    def keeps() -> Bits:
        found = 0
        for term in requirements.any_of:
            passed = index.everything
            for expression in term:
                passed &= index.matching(expression)
            found |= passed
        return found

    terms = " or ".join(" and ".join(str(e) for e in term) for term in requirements.any_of)
    return Filter("node affinity", keeps, lambda left: f"node affinity wants {terms}")


def _build_least_filters(index: OfferingIndex, need: Need, requirements: Requirements) -> list[Filter]:
    """Filters on amounts."""
    filters = []
    if need.gpus:
        filters.append(_build_least(GPU, index.gpus, need.gpus, lambda left: f"the pod requests {need.gpus} of {GPU}"))
    if amount := requirements.gpu_memory_bytes:
        filters.append(
            _build_least(
                "GPU memory",
                index.gpu_memory,
                amount,
                lambda left: (
                    f"the pod wants GPUs of {format_memory(amount)}, the largest has "
                    f"{format_memory(index.largest(left, lambda o: o.traits.gpu_memory_bytes))}"
                ),
            )
        )
    if disk := requirements.local_disk_bytes:
        filters.append(
            _build_least(
                "local disk",
                index.local_disk,
                disk,
                lambda left: (
                    f"the pod wants local disks of {format_memory(disk)}, the largest has "
                    f"{format_memory(index.largest(left, lambda o: o.traits.local_disk_bytes))}"
                ),
            )
        )
    if subnet := requirements.option("subnet"):
        filters.append(
            Filter(
                "subnet",
                lambda: index.where(lambda o: subnet in o.subnets) or index.everything,  # one that only the cloud knows
                lambda left: f"no offering is in the zone of the subnet {subnet}",
            )
        )
    if rate := requirements.option("root-volume-throughput"):
        filters.append(
            _build_least(
                "volume throughput",
                index.volume_rate,
                int(rate) * _MIB,
                lambda left: (
                    f"the pod wants {rate} MiB/s of its root volume, the best carries "
                    f"{index.largest(left, lambda o: o.traits.volume_bytes_per_s) // _MIB} MiB/s"
                ),
            )
        )
    reserve = need.memory_bytes - need.pod_memory_bytes
    filters.append(
        _build_least(
            "cpu",
            index.cpu,
            need.cpu_milli,
            lambda left: (
                f"the pod needs {format_cpu(need.pod_cpu_milli)} CPU, "
                f"the largest has {format_cpu(index.largest(left, lambda o: o.cpu_milli))}"
            ),
        )
    )
    filters.append(
        _build_least(
            "memory",
            index.memory,
            need.memory_bytes,
            lambda left: (
                f"the pod needs {format_memory(need.pod_memory_bytes)} of memory and the instance itself "
                f"{format_memory(reserve)}, the largest has "
                f"{format_memory(index.largest(left, _usable_memory))}"
            ),
        )
    )
    return filters


def _build_least(name: str, thresholds: Thresholds, amount: int, explain: Callable[[Bits], str]) -> Filter:
    return Filter(name, lambda: thresholds.at_least(amount), explain)


def _usable_memory(offering: Offering) -> int:
    return offering.usable_memory_bytes


def _list(index: OfferingIndex, bits: Bits) -> str:
    names = [f"{o.instance_type} ({o.capacity_type}) in {o.zone}" for o in index.first(bits, 3)]
    count = bits.bit_count()
    return ", ".join(names) + (f" and {count - 3} more" if count > 3 else "")
