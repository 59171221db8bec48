"""Compares two histories and names the differences by kind. Pure.

Two pods are never in the same state at the same moment, so statuses are compared with what the other side showed within
a tolerance around the same relative moment, and what lasts shorter than that on one side counts for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.differential.containers import running_of
from tests.differential.difference import Difference, difference, generalise, gist
from tests.differential.events import compare_events
from tests.differential.firstword import early_conditions
from tests.differential.history import History
from tests.differential.later import (
    ENDING_S,
    OF_BEFORE,
    heeds_only_the_first,
    is_deleted_again,
    last_states,
    mark_words_of_another,
    said_in,
    until_the_second_deletion,
    was_forced,
    with_reasons_of_before,
    without_ends_lost_by_eviction,
)
from tests.differential.meeting import until_what_met_the_end
from tests.differential.normalise import (
    Own,
    before_back_off,
    normalise,
    normalise_status,
    own_of,
    without_unlimited,
)
from tests.differential.parting import TERMINAL, find_parting
from vk_provider.jsontypes import Json

TOLERANCE_S = 2.5
"""Around a moment: a tick of the kubelet's PLEG (1 s), a sync and the status manager's batch."""
LASTING_S = 4.0
"""What one side shows at least this long, the other must have shown at all."""
LONG_S = 15.0
"""Longer than a kubelet's sync is late (10 s): what it shows a sync later, it has shown by then."""
STEP_S = 1.5
"""How far apart the twins may be in what they do: a tick of the kubelet's PLEG (1 s) and its status."""
BACKED_OFF = ("waiting ErrImagePull", "waiting ImagePullBackOff")
"""What is said of a pull that has failed, and a pass later."""
OF_CONTAINERS = ("exec", "attach", "portforward", "port-forward", "logs", "cp", "delete")
"""Actions that a running container, or a pod that is there, answers."""


def compare(ours: History, theirs: History) -> list[Difference]:
    """Every difference between two closed histories."""
    if parting := find_parting(ours, theirs):
        kind, *said = parting
        return [Difference(generalise(kind), *said)]
    ours, theirs = without_ends_lost_by_eviction(*until_what_met_the_end(ours, theirs))
    ours, theirs = mark_words_of_another(ours, theirs)
    sides = (ours, theirs)
    owns = tuple(own_of(side.namespace, side.node, [item.pod for item in side.versions]) for side in sides)
    found: dict[str, Difference] = {}
    if heeds_only_the_first(ours, theirs):
        slower = Difference("ending after a second deletion: slower kubelet", "heeded", "the first grace is waited out")
        found[slower.kind] = slower
        sides = (until_the_second_deletion(ours), until_the_second_deletion(theirs))
    for each in (
        *_compare_answers(sides, owns),
        *_compare_first(sides, owns),
        *_compare_moments(sides, owns),
        *_compare_lasting(sides, owns),
        *compare_events(sides, owns),
        *_compare_endings(sides, owns),
    ):
        found.setdefault(each.kind, each)
    return list(found.values())


# Answers.


def _compare_answers(sides: tuple[History, History], owns: tuple[Own, ...]) -> Iterator[Difference]:
    for key in dict.fromkeys([*sides[0].answers, *sides[1].answers]):
        values = [normalise(side.answers.get(key), own) for side, own in zip(sides, owns, strict=True)]
        if values[0] is None or values[1] is None:
            yield difference(f"answer {_verb(key)}: missing", values[0], values[1])
            continue
        for name in dict.fromkeys([*values[0], *values[1]]):
            first, second = values[0].get(name), values[1].get(name)
            if first != second and not _have_met_a_step(sides, key):
                label = (
                    generalise(f": {gist(first, second)}") if name in ("message", "body", "stderr", "stdout") else ""
                )
                yield difference(f"answer {_verb(key)}.{name}{label}", first, second)


def _have_met_a_step(sides: tuple[History, History], key: str) -> bool:
    """Whether the question came when, on both sides, a container began or ended, or the pod ended or went: on which
    side of that moment it was answered is chance."""
    return _verb(key) in OF_CONTAINERS and all(_steps_around(side, side.asked.get(key)) > 1 for side in sides)


def _steps_around(side: History, moment: float | None) -> int:
    if moment is None:
        return 0
    steps = {_step(pod) for pod in side.between(moment - STEP_S, moment + STEP_S)}
    return len(steps) + (side.gone is not None and abs(side.gone - moment) <= STEP_S)


def _step(pod: Json) -> tuple[bool, bool, frozenset[str]]:
    has_ended = pod.get("status", {}).get("phase") in TERMINAL
    return bool(pod["metadata"].get("deletionTimestamp")), has_ended, running_of(pod)


def _verb(key: str) -> str:
    return key.partition(" ")[2] or key


# Statuses at moments.


def _compare_moments(sides: tuple[History, History], owns: tuple[Own, ...]) -> Iterator[Difference]:
    for name in sides[0].snaps:
        if name not in sides[1].snaps:
            continue
        moments = [_statuses_around(side, own, side.snaps[name]) for side, own in zip(sides, owns, strict=True)]
        found = nearest(moments[0], moments[1], "status")
        if found:
            earlier = [[before_back_off(status) for status in statuses] for statuses in moments]
            found = min(found, nearest(earlier[0], earlier[1], "status"), key=len)
        if found:
            said = said_in(_statuses_before(sides[0], owns[0], sides[0].snaps[name]))
            behind = [with_reasons_of_before(status, said) for status in moments[1]]
            found = min(found, nearest(moments[0], behind, "status"), key=_worth)
        yield from found


def _worth(found: list[Difference]) -> tuple[int, int]:
    """Fewest first; of as many those that say why."""
    return len(found), -sum(OF_BEFORE in item.theirs for item in found)


def _statuses_before(side: History, own: Own, moment: float) -> list[Json]:
    return [normalise_status(item.pod, own) for item in side.versions if item.at <= moment - TOLERANCE_S]


def _statuses_around(side: History, own: Own, moment: float) -> list[Json]:
    """What held within the tolerance, but for a deletion after the moment; a pod that is gone has no status."""
    if side.gone is not None and side.gone < moment - TOLERANCE_S:
        return [{"(gone)": True}]
    end = moment + TOLERANCE_S
    if side.deleted is not None and side.deleted >= moment:
        end = min(end, side.deleted - 0.001)
    statuses = [normalise_status(pod, own) for pod in side.between(moment - TOLERANCE_S, end)]
    if side.gone is not None and side.gone <= end:
        statuses.append({"(gone)": True})
    return statuses or [{}]


def nearest(first: list[Json], second: list[Json], label: str) -> list[Difference]:
    """The differences of the two statuses that differ least; none when some two are equal."""
    best: list[Difference] | None = None
    for ours in first:
        for theirs in second:
            found = list(differ(ours, theirs, label))
            if best is None or len(found) < len(best):
                best = found
            if not best:
                return []
    return best or []


CONTAINERS = re.compile(r"^(status\.)(init|ephemeral)?[cC]ontainerStatuses\.[^.]+")


def differ(ours: Any, theirs: Any, path: str) -> Iterator[Difference]:
    """The leaves at which two JSON values differ."""
    if path.endswith(".resources"):
        ours, theirs = without_unlimited(ours, theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys([*ours, *theirs]):
            yield from differ(ours.get(key), theirs.get(key), f"{path}.{key}")
    elif ours != theirs and not _one_restart_apart(path, ours, theirs):
        yield difference(_path_kind(path, ours, theirs), ours, theirs)


def _one_restart_apart(path: str, ours: Any, theirs: Any) -> bool:
    """Two loops of restarts are never in the same step at the same moment."""
    return path.endswith(".restartCount") and bool(ours) and bool(theirs) and abs(ours - theirs) == 1


def _path_kind(path: str, ours: Any, theirs: Any) -> str:
    """The path with container names taken out, and the values where they are words."""
    kind = CONTAINERS.sub(lambda found: f"{found[1]}{found[2] or ''}{'C' if found[2] else 'c'}ontainer", path)
    if isinstance(ours, dict) or isinstance(theirs, dict):
        return f"{kind}: {_summary(ours)} / {_summary(theirs)}"
    if path.endswith(("message", "volumeMounts")) and ours and theirs:
        return f"{kind}: {generalise(gist(ours, theirs))}"
    if path.endswith("restartCount"):
        return kind
    return generalise(f"{kind}: {_summary(ours)} / {_summary(theirs)}")


def _summary(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(sorted(map(str, value))) + "}"
    return "-" if value is None else str(value)[:80]


# What lasts.


def facets(status: Json) -> set[str]:
    """The facts of a status that a user would notice, without counts."""
    found = {f"phase {status.get('phase')}", f"reason {status.get('reason')}"}
    for name, condition in status.get("conditions", {}).items():
        found.add(f"condition {name} {condition.get('status')} {condition.get('reason', '')}".rstrip())
    for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for name, container in status.get(key, {}).items():
            for state, details in container.get("state", {}).items():
                words = " ".join(str(details[word]) for word in ("reason", "exitCode") if word in (details or {}))
                found.add(f"{key.removesuffix('Statuses')} {name} {state} {words}".rstrip())
    return found


def _compare_lasting(sides: tuple[History, History], owns: tuple[Own, ...]) -> Iterator[Difference]:
    """Before the deletion, and while it takes."""
    if not (sides[0].created and sides[1].created):
        return
    for label, ending in (("lasting", False), ("lasting while ending", True)):
        spans = [_spans(side, own, ending=ending) for side, own in zip(sides, owns, strict=True)]
        lasts = [_last_facets(side, own) for side, own in zip(sides, owns, strict=True)]
        for here, there, where in ((0, 1, "only here"), (1, 0, "only kubelet")):
            for facet, seconds in spans[here].items():
                if seconds >= LASTING_S and facet not in spans[there]:
                    said = (f"{facet} for {seconds:.0f} s", "never")
                    kind = re.sub(r"^(\w*[cC]ontainer) \S+", r"\1", facet)
                    kind += " for long" if seconds >= LONG_S else ""
                    kind += ", the last state there" if facet in lasts[there] else ""
                    kind += (
                        ", its back-off there" if facet.replace(*BACKED_OFF) in spans[there].keys() - {facet} else ""
                    )
                    yield Difference(f"{label} {where}: {generalise(kind)}", *(said if here == 0 else said[::-1]))


def _last_facets(side: History, own: Own) -> set[str]:
    """The ends of containers that were said only with why the next start has to wait."""
    ends = last_states([normalise_status(item.pod, own) for item in side.versions])
    return {
        f"{key.removesuffix('Statuses')} {name} terminated "
        + " ".join(str(word) for word in (reason, code) if word is not None)
        for key, name, reason, code in ends
    }


def _spans(side: History, own: Own, *, ending: bool) -> dict[str, float]:
    """How long each facet held in all: until the pod's deletion, or from there to its end."""
    last = min(moment for moment in (side.gone, side.closed, float("inf")) if moment is not None)
    deleted = last if side.deleted is None else side.deleted
    begin, end = (deleted, last) if ending else (0.0, deleted)
    total: dict[str, float] = {}
    for version, following in zip(side.versions, [*side.versions[1:], None], strict=True):
        since, until = max(version.at, begin), end if following is None else min(following.at, end)
        if until < since:
            continue
        for facet in facets(normalise_status(version.pod, own)):
            total[facet] = total.get(facet, 0.0) + until - since
    return total


# The first word of the node.


def _compare_first(sides: tuple[History, History], owns: tuple[Own, ...]) -> Iterator[Difference]:
    """The conditions of the first status that our node writes are such as the kubelet has shown before a container ran.
    A kubelet's first word may be overtaken by its second, so any of those before its sandbox will do."""
    early = [early_conditions(side, own) for side, own in zip(sides, owns, strict=True)]
    if early[0] and early[1]:
        yield from nearest(early[0][:1], early[1], "first status")


# Endings.


def _compare_endings(sides: tuple[History, History], owns: tuple[Own, ...]) -> Iterator[Difference]:
    taken = [None if side.gone is None or side.deleted is None else side.gone - side.deleted for side in sides]
    if (taken[0] is None) != (taken[1] is None):
        if all(side.created for side in sides):
            yield difference("ending: gone", taken[0] is not None, taken[1] is not None)
    elif taken[0] is not None and taken[1] is not None and abs(taken[0] - taken[1]) > ENDING_S:
        slower = "here" if taken[0] > taken[1] else "kubelet"
        again = " after a second deletion" if any(is_deleted_again(side) for side in sides) else ""
        yield Difference(f"ending{again}: slower {slower}", f"{taken[0]:.1f} s", f"{taken[1]:.1f} s")
    lasts = [normalise_status(side.latest, own) if side.gone else {} for side, own in zip(sides, owns, strict=True)]
    if all(lasts) and not any(was_forced(side) for side in sides):
        phases = [status.get("phase") for status in lasts]
        if phases[0] != phases[1]:
            yield difference(f"ending: phase: {phases[0]} / {phases[1]}", *phases)
        codes = [_exit_codes(before_back_off(status)) for status in lasts]
        for name in dict.fromkeys([*codes[0], *codes[1]]):
            if codes[0].get(name) != codes[1].get(name):
                first, second = codes[0].get(name), codes[1].get(name)
                yield difference(f"ending: container: {first} / {second}", first, second)


def _exit_codes(status: Json) -> dict[str, str]:
    codes = {}
    for key in ("initContainerStatuses", "containerStatuses"):
        for name, container in status.get(key, {}).items():
            state, details = next(iter(container.get("state", {}).items()), ("none", {}))
            codes[name] = f"{state} {(details or {}).get('reason', '')} {(details or {}).get('exitCode', '')}".strip()
    return codes
