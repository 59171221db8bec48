"""Chooses the cheapest offering that passes a chain of named filters. Both outcomes are explained in one sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vk_provider.cloud.base import LocalStore, Offering, OfferingKey, offering_key
from vk_provider.cloud.volumes import PLAIN_SPEED
from vk_provider.eventreasons import INVALID_REQUIREMENT
from vk_provider.jsontypes import Json
from vk_provider.sizing.disks import IOPS_OPTION, THROUGHPUT_OPTION, DiskPlan, plan_disks, read_speed
from vk_provider.sizing.filters import AVAILABILITY, build_filters
from vk_provider.sizing.index import SPOT, Bits, OfferingIndex, rank_key
from vk_provider.sizing.need import Need, compute_need, format_cpu, format_memory
from vk_provider.sizing.preferences import NO_PREFERENCES, Preferences
from vk_provider.sizing.requirement import (
    NOTHING_GIVEN,
    Given,
    RequirementError,
    Requirements,
    find_requirements,
)

MAX_ALTERNATIVES = 10
SPOT_TYPES = 5
"""Instance types that a request for spot capacity names where as many fit: EC2's advice."""
MAX_SPOT_ALTERNATIVES = 50
_Allowed = tuple[Preferences, tuple[str, ...]]
"""The Node's preferences, and the architectures of the pod's images."""
_ROOT_DISK = "root disk"
_BURST_FILTERS = ("cpu", "memory", _ROOT_DISK)
"""Where limits larger than any instance fall back to requests."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The offering to launch; `alternatives` are the next best, for when the cloud lacks capacity.

    message: the reason of the choice, for an event and a pod condition
    asked:   digest of what was asked for, the same whatever is available at the moment
    options: of the launch
    steady_cpu_milli: what prices are computed for
    local_store: where the offerings' own disks may be used instead of a root disk of disk_bytes
    """

    offering: Offering
    alternatives: tuple[Offering, ...]
    disk_bytes: int
    message: str
    asked: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    steady_cpu_milli: int = 0
    local_store: LocalStore | None = None

    @property
    def disks(self) -> DiskPlan:
        return DiskPlan(self.disk_bytes, self.local_store, read_speed(self.options))


@dataclass(frozen=True, slots=True)
class Refusal:
    """No offering fits. `removed_by` names the filter that removed the last candidate.

    retryable: only the cloud's current lack of capacity prevents it
    """

    reason: str
    message: str
    removed_by: str
    retryable: bool = False


class OfferingSelector:
    """Selects from a list of offerings; equal selections (pods of one Deployment) are cached."""

    _MEMORY = 2048

    def __init__(self, offerings: Iterable[Offering]) -> None:
        self._index = OfferingIndex(offerings)
        self._answers: dict[object, Selection | Refusal] = {}

    @property
    def offerings(self) -> Sequence[Offering]:
        """The best first."""
        return self._index.offerings

    def replace_index(self, index: OfferingIndex) -> None:
        """The cloud offers others, or at other prices. To make the index of thousands takes a while: in a thread."""
        self._index = index
        self._answers.clear()

    def select(
        self,
        pod: Json,
        unavailable: frozenset[OfferingKey],
        preferences: Preferences = NO_PREFERENCES,
        given: Given = NOTHING_GIVEN,
    ) -> Selection | Refusal:
        """Return the cheapest offering that fits, or why there is none."""
        try:
            requirements = find_requirements(pod, preferences.node_labels, given, preferences.pod_options)
        except RequirementError as error:
            return Refusal(INVALID_REQUIREMENT, str(error), "annotations")
        return self._select(pod, requirements, unavailable, (preferences, given.architectures))[0]

    def fits(
        self,
        pod: Json,
        offering: Offering,
        disk_bytes: int,
        preferences: Preferences = NO_PREFERENCES,
        given: Given = NOTHING_GIVEN,
    ) -> bool:
        """Whether an instance of the offering that is there already may be the pod's; disk_bytes: of its root disk, or
        of what its own disks hold instead. One that was launched without options is for no pod that has some."""
        try:
            requirements = find_requirements(pod, preferences.node_labels, given, preferences.pod_options)
        except RequirementError:
            return False
        allowed = preferences, given.architectures
        answer, need = self._select(pod, requirements, frozenset(), allowed)
        if isinstance(answer, Refusal) or requirements.options or offering.gpus > need.gpus:
            return False
        index = self._index
        left = index.find(offering_key(offering))
        for each in build_filters(index, need, requirements, frozenset(), *allowed):
            left &= each.keeps()
        root = plan_disks(disk_bytes, preferences.base_disk_bytes).root_disk_of(offering)
        return bool(left) and need.disk_bytes <= disk_bytes and requirements.root_disk_bytes <= root

    def _select(
        self, pod: Json, requirements: Requirements, unavailable: frozenset[OfferingKey], allowed: _Allowed
    ) -> tuple[Selection | Refusal, Need]:
        """The answer, and what it was asked for: limits, or requests where no instance has as much."""
        preferences = allowed[0]
        if preferences.size_to_limits:
            need = compute_need(pod, preferences, limits=True)
            answer = self._answer(need, requirements, unavailable, allowed)
            if isinstance(answer, Selection) or answer.removed_by not in _BURST_FILTERS:
                return answer, need
        need = compute_need(pod, preferences)
        return self._answer(need, requirements, unavailable, allowed), need

    def _answer(
        self,
        need: Need,
        requirements: Requirements,
        unavailable: frozenset[OfferingKey],
        allowed: _Allowed,
    ) -> Selection | Refusal:
        key = (need, requirements, unavailable, allowed)
        answer = self._answers.get(key)
        if answer is None:
            answer = _select(self._index, need, requirements, unavailable, allowed)
            if len(self._answers) >= self._MEMORY:
                self._answers.clear()
            self._answers[key] = answer
        return answer


def select_offering(
    pod: Json,
    offerings: Iterable[Offering],
    unavailable: frozenset[OfferingKey] = frozenset(),
    preferences: Preferences = NO_PREFERENCES,
    given: Given = NOTHING_GIVEN,
) -> Selection | Refusal:
    """As OfferingSelector.select, for one pod."""
    return OfferingSelector(offerings).select(pod, unavailable, preferences, given)


def _select(
    index: OfferingIndex,
    need: Need,
    requirements: Requirements,
    unavailable: frozenset[OfferingKey],
    allowed: _Allowed,
) -> Selection | Refusal:
    preferences, architectures = allowed
    if need.unknown:
        return Refusal("NoFittingInstance", f"No instance type has the resource {need.unknown}", "resources")
    for name, _ in requirements.options:
        if name not in preferences.launch_options:
            return Refusal(INVALID_REQUIREMENT, f"This cloud has no launch option {name}", "options")
    volumes, speed = preferences.root_volumes, read_speed(dict(requirements.options))
    if volumes is not None and speed != PLAIN_SPEED and (problem := volumes.find_problem(speed)):
        text = f"the annotations vk-provider/{IOPS_OPTION} and vk-provider/{THROUGHPUT_OPTION} do not fit: {problem}"
        return Refusal(INVALID_REQUIREMENT, text, "options")
    left, size = index.everything, len(index.offerings)
    for each in build_filters(index, need, requirements, unavailable, preferences, architectures):
        passed = left & each.keeps()
        if not passed:
            retryable = each.name == AVAILABILITY
            reason = "InsufficientInstanceCapacity" if retryable else "NoFittingInstance"
            considered = f"{left.bit_count()} of {size} offerings were left before the filter on {each.name}"
            return Refusal(reason, f"No instance fits: {each.explain(left)} ({considered})", each.name, retryable)
        left = passed
    disks = plan_disks(need.disk_bytes, preferences.base_disk_bytes, requirements)
    if 0 < preferences.max_disk_bytes < disks.disk_bytes:  # only an instance's own disks may hold it
        left = _without_root(index, left, disks, preferences.max_disk_bytes)
        if not left:
            asked, most = format_memory(disks.disk_bytes), format_memory(preferences.max_disk_bytes)
            text = f"No instance fits: the pod needs a root disk of {asked}, and {most} is allowed (pods.max_root_disk)"
            return Refusal("NoFittingInstance", text, _ROOT_DISK)
    ranked = _rank(index, left, need.steady_cpu_milli, disks)
    asked = hashlib.sha256(repr((need, requirements, preferences, architectures)).encode()).hexdigest()
    return Selection(
        ranked[0],
        tuple(ranked[1:]),
        disks.disk_bytes,
        _explain(ranked, left.bit_count(), need, disks),
        asked,
        dict(requirements.options),
        need.steady_cpu_milli,
        disks.store_among(ranked),
    )


def _without_root(index: OfferingIndex, left: Bits, disks: DiskPlan, most: int) -> Bits:
    """Those whose own disks hold everything, so that the root disk is not enlarged for it."""
    if disks.store is None or disks.least_root_bytes > most:
        return 0
    return left & index.store.at_least(disks.store.least_bytes)


def _rank(index: OfferingIndex, left: Bits, cpu_milli: int, disks: DiskPlan) -> list[Offering]:
    """The best, and alternatives. What a burstable one costs is only known with the pod's CPU; a larger root disk costs
    the same with all offerings that need one."""
    limit = 1 + (MAX_SPOT_ALTERNATIVES if left & index.spot else MAX_ALTERNATIVES)
    stored = left & index.store.at_least(disks.store.least_bytes) if disks.store is not None else 0
    if stored:
        parts = (part for part in (stored, left & ~stored) if part)
        best = [each for part in parts for each in _rank_alike(index, part, cpu_milli, limit)]
        best.sort(key=lambda each: rank_key(each, each.compute_price(cpu_milli) + disks.compute_price(each)))
    else:
        best = _rank_alike(index, left, cpu_milli, limit)
    count = 1 + MAX_ALTERNATIVES
    if best[0].capacity_type == SPOT:
        types = {offering.instance_type for offering in best[:count]}
        while len(types) < SPOT_TYPES and count < min(len(best), 1 + MAX_SPOT_ALTERNATIVES):
            types.add(best[count].instance_type)
            count += 1
    return best[:count]


def _rank_alike(index: OfferingIndex, left: Bits, cpu_milli: int, limit: int) -> list[Offering]:
    """The best, `limit` of them at least, of offerings whose root disks cost the same."""
    best = index.first(left & ~index.bursting, limit)
    worst = rank_key(best[-1], best[-1].price_per_hour) if len(best) == limit else None
    before = len(best)
    for offering in index.iterate(left & index.bursting):
        if worst is not None and rank_key(offering, offering.price_per_hour) > worst:
            break  # it costs so much at least, and so do those after it
        best.append(offering)
    if len(best) > before:
        best.sort(key=lambda offering: rank_key(offering, offering.compute_price(cpu_milli)))
    return best


def explain_choice(selection: Selection, key: OfferingKey) -> str:
    """The reason, where the cloud has taken one of the alternatives, or an earlier choice, instead."""
    if key == offering_key(selection.offering):
        return selection.message
    for other in selection.alternatives:
        if key == offering_key(other):
            price = format_price(other, selection.steady_cpu_milli)
            disks = selection.disks.explain(other)
            return f"Selected {_describe(other)} at {price}{disks}: the cloud had no capacity for cheaper ones"
    return f"Selected {key[0]} {key[2]} in {key[1]}, which was launched for an equal pod"


def _explain(ranked: list[Offering], count: int, need: Need, disks: DiskPlan) -> str:
    reserve = format_memory(need.memory_bytes - need.pod_memory_bytes)
    room = f"{format_cpu(need.pod_cpu_milli)} CPU and {format_memory(need.pod_memory_bytes)}"
    text = (
        f"Selected {_describe(ranked[0])} at {format_price(ranked[0], need.steady_cpu_milli)}"
        f"{disks.explain(ranked[0])}: the cheapest of {count} offerings with room for {room} "
        f"(and {reserve} for the instance itself)"
    )
    if len(ranked) == 1:
        return text
    other = ranked[1]
    price = other.compute_price(need.steady_cpu_milli)
    name = f"{other.instance_type} {other.capacity_type} in {other.zone}"
    return f"{text}; the next, {name}, costs ${price:.4f}{disks.explain(other)}"


def _describe(offering: Offering) -> str:
    gpus = ""
    if offering.gpus:
        gpus = f", {offering.gpus} {offering.traits.gpu_name or 'GPU'}"
    size = f"{format_cpu(offering.cpu_milli)} CPU, {format_memory(offering.memory_bytes)}{gpus}"
    return f"{offering.instance_type} ({size}) {offering.capacity_type} in {offering.zone}"


def format_price(offering: Offering, cpu_milli: int) -> str:
    """What it costs while so much CPU is in use all the time."""
    price = offering.compute_price(cpu_milli)
    text = f"${price:.4f} per hour"
    burst = price - offering.price_per_hour
    return f"{text} (of which ${burst:.4f} for CPU above its baseline)" if burst > 0 else text


def with_memory(offering: Offering, os_memory_bytes: int) -> Offering:
    """The offering with what an operating system has found."""
    return replace(offering, traits=replace(offering.traits, os_memory_bytes=os_memory_bytes))
