"""Chooses the cheapest offering that passes a chain of named filters. Both outcomes are explained in one sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vk_provider.cloud.base import Offering, OfferingKey
from vk_provider.jsontypes import Json
from vk_provider.sizing.need import GPU, Need, compute_need, format_cpu, format_memory
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.requirement import CAPACITY_TYPE, LABELS, Requirements, find_requirements, offering_label

_NAMES = dict(zip(LABELS, ("architecture", "instance type", "zone", "capacity type"), strict=True))
MAX_ALTERNATIVES = 10
_BURST_FILTERS = ("cpu", "memory")
"""Where limits larger than any instance fall back to requests."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The offering to launch; `alternatives` are the next best, for when the cloud lacks capacity.

    message: the reason of the choice, for an event and a pod condition
    asked:   digest of what was asked for, the same whatever is available at the moment
    """

    offering: Offering
    alternatives: tuple[Offering, ...]
    disk_bytes: int
    message: str
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """No offering fits. `removed_by` names the filter that removed the last candidate.

    retryable: only the cloud's current lack of capacity prevents it
    """

    reason: str
    message: str
    removed_by: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class _Filter:
    """explain: (offerings before the filter) -> why none of them passed."""

    name: str
    keeps: Callable[[Offering], bool]
    explain: Callable[[Sequence[Offering]], str]


class OfferingSelector:
    """Selects from a fixed list of offerings; equal selections (pods of one Deployment) are cached."""

    _MEMORY = 256

    def __init__(self, offerings: Iterable[Offering]) -> None:
        self._offerings = sorted(offerings, key=lambda o: (o.price_per_hour, o.cpu_milli, o.memory_bytes))
        self._answers: dict[object, Selection | Refusal] = {}

    @property
    def offerings(self) -> Sequence[Offering]:
        return self._offerings

    def select(
        self,
        pod: Json,
        unavailable: frozenset[OfferingKey],
        preferences: Preferences = Preferences(),  # noqa: B008
    ) -> Selection | Refusal:
        """Return the cheapest offering that fits, or why there is none."""
        return self._select(pod, unavailable, preferences)[0]

    def fits(self, pod: Json, offering: Offering, disk_bytes: int, preferences: Preferences) -> bool:
        """Whether an instance of the offering that is there already may be the pod's; disk_bytes: of its root disk."""
        answer, need = self._select(pod, frozenset(), preferences)
        if isinstance(answer, Refusal) or need.disk_bytes > disk_bytes or offering.gpus > need.gpus:
            return False
        requirements = find_requirements(pod, preferences.node_labels)
        return all(each.keeps(offering) for each in _build_filters(need, requirements, frozenset(), preferences))

    def _select(
        self, pod: Json, unavailable: frozenset[OfferingKey], preferences: Preferences
    ) -> tuple[Selection | Refusal, Need]:
        """The answer, and what it was asked for: limits, or requests where no instance has as much."""
        if preferences.size_to_limits:
            need = compute_need(pod, preferences, limits=True)
            answer = self._answer(pod, need, unavailable, preferences)
            if isinstance(answer, Selection) or answer.removed_by not in _BURST_FILTERS:
                return answer, need
        need = compute_need(pod, preferences)
        return self._answer(pod, need, unavailable, preferences), need

    def _answer(
        self, pod: Json, need: Need, unavailable: frozenset[OfferingKey], preferences: Preferences
    ) -> Selection | Refusal:
        requirements = find_requirements(pod, preferences.node_labels)
        key = (need, requirements, unavailable, preferences)
        answer = self._answers.get(key)
        if answer is None:
            answer = _select(self._offerings, need, requirements, unavailable, preferences)
            if len(self._answers) >= self._MEMORY:
                self._answers.clear()
            self._answers[key] = answer
        return answer


def select_offering(
    pod: Json,
    offerings: Iterable[Offering],
    unavailable: frozenset[OfferingKey] = frozenset(),
    preferences: Preferences = Preferences(),  # noqa: B008
) -> Selection | Refusal:
    """As OfferingSelector.select, for one pod."""
    return OfferingSelector(offerings).select(pod, unavailable, preferences)


def _select(
    offerings: Sequence[Offering],
    need: Need,
    requirements: Requirements,
    unavailable: frozenset[OfferingKey],
    preferences: Preferences,
) -> Selection | Refusal:
    if need.unknown:
        return Refusal("NoFittingInstance", f"No instance type has the resource {need.unknown}", "resources")
    left = list(offerings)
    for each in _build_filters(need, requirements, unavailable, preferences):
        passed = [offering for offering in left if each.keeps(offering)]
        if not passed:
            retryable = each.name == "availability"
            reason = "InsufficientInstanceCapacity" if retryable else "NoFittingInstance"
            considered = f"{len(left)} of {len(offerings)} offerings were left before the filter on {each.name}"
            return Refusal(reason, f"No instance fits: {each.explain(left)} ({considered})", each.name, retryable)
        left = passed
    chosen = left[0]
    asked = hashlib.sha256(repr((need, requirements, preferences)).encode()).hexdigest()
    others = tuple(left[1 : 1 + MAX_ALTERNATIVES])
    return Selection(chosen, others, need.disk_bytes, _explain(chosen, left, need), asked)


def explain_choice(selection: Selection, key: OfferingKey) -> str:
    """The reason, where the cloud has taken one of the alternatives, or an earlier choice, instead."""
    chosen = selection.offering
    if key == (chosen.instance_type, chosen.zone, chosen.capacity_type):
        return selection.message
    for other in selection.alternatives:
        if key == (other.instance_type, other.zone, other.capacity_type):
            return (
                f"Selected {other.instance_type} ({format_cpu(other.cpu_milli)} CPU, "
                f"{format_memory(other.memory_bytes)}) {other.capacity_type} in {other.zone} at "
                f"${other.price_per_hour:.4f} per hour: the cloud had no capacity for cheaper ones"
            )
    return f"Selected {key[0]} {key[2]} in {key[1]}, which was launched for an equal pod"


def _build_filters(
    need: Need, requirements: Requirements, unavailable: frozenset[OfferingKey], preferences: Preferences
) -> list[_Filter]:
    filters = [_label_filter(label, requirements, preferences) for label in LABELS]
    if requirements.any_of:
        filters.append(_affinity_filter(requirements))
    if need.gpus:
        filters.append(
            _Filter(GPU, lambda o: o.gpus >= need.gpus, lambda left: f"the pod requests {need.gpus} of {GPU}")
        )
    reserve = need.memory_bytes - need.pod_memory_bytes
    filters += [
        _Filter(
            "cpu",
            lambda o: o.cpu_milli >= need.cpu_milli,
            lambda left: (
                f"the pod needs {format_cpu(need.pod_cpu_milli)} CPU, "
                f"the largest has {format_cpu(max(o.cpu_milli for o in left))}"
            ),
        ),
        _Filter(
            "memory",
            lambda o: o.memory_bytes >= need.memory_bytes,
            lambda left: (
                f"the pod needs {format_memory(need.pod_memory_bytes)} of memory and the instance itself "
                f"{format_memory(reserve)}, the largest has {format_memory(max(o.memory_bytes for o in left))}"
            ),
        ),
        _Filter(
            "availability",
            lambda o: (o.instance_type, o.zone, o.capacity_type) not in unavailable,
            lambda left: f"the cloud has no capacity for {_list(left)} now",
        ),
    ]
    return filters


def _label_filter(label: str, requirements: Requirements, preferences: Preferences) -> _Filter:
    """The pod's requirements on one label; those on the capacity type replace its default."""
    expressions = tuple(e for e in requirements.always if e.label == label)
    allowed = _allowed(label, preferences)
    if label == CAPACITY_TYPE and requirements.names(label):
        allowed = ()

    def keeps(offering: Offering) -> bool:
        value = offering_label(offering, label)
        if allowed and not any(fnmatchcase(value, pattern) for pattern in allowed):
            return False
        return all(expression.matches(value) for expression in expressions)

    def explain(left: Sequence[Offering]) -> str:
        wanted = [str(e) for e in expressions]
        if allowed:
            wanted.append(f"this node allows {', '.join(allowed)}")
        found = ", ".join(sorted({offering_label(o, label) for o in left}))
        return f"{' and '.join(wanted)}; there is {found or 'nothing'}"

    return _Filter(_NAMES[label], keeps, explain)


def _allowed(label: str, preferences: Preferences) -> tuple[str, ...]:
    lists = (preferences.architectures, preferences.instance_types, preferences.zones, preferences.capacity_types)
    return dict(zip(LABELS, lists, strict=True))[label]


def _affinity_filter(requirements: Requirements) -> _Filter:
    def keeps(offering: Offering) -> bool:
        return any(all(e.matches(offering_label(offering, e.label)) for e in term) for term in requirements.any_of)

    terms = " or ".join(" and ".join(str(e) for e in term) for term in requirements.any_of)
    return _Filter("node affinity", keeps, lambda left: f"node affinity wants {terms}")


def _list(offerings: Sequence[Offering]) -> str:
    names = [f"{o.instance_type} ({o.capacity_type}) in {o.zone}" for o in offerings[:3]]
    return ", ".join(names) + (f" and {len(offerings) - 3} more" if len(offerings) > 3 else "")


def _explain(chosen: Offering, left: Sequence[Offering], need: Need) -> str:
    reserve = format_memory(need.memory_bytes - need.pod_memory_bytes)
    room = f"{format_cpu(need.pod_cpu_milli)} CPU and {format_memory(need.pod_memory_bytes)}"
    return (
        f"Selected {chosen.instance_type} ({format_cpu(chosen.cpu_milli)} CPU, {format_memory(chosen.memory_bytes)}) "
        f"{chosen.capacity_type} in {chosen.zone} at ${chosen.price_per_hour:.4f} per hour: the cheapest of "
        f"{len(left)} offerings with room for {room} (and {reserve} for the instance itself)"
    )
