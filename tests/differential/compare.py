"""Compares two histories and names the differences by kind. Pure.

Two pods are never in the same state at the same moment, so statuses are compared with what the other side showed within
a tolerance around the same relative moment, and what lasts shorter than that on one side counts for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.differential.history import History, has_begun
from tests.differential.normalise import (
    Own,
    before_back_off,
    normalise,
    normalise_status,
    normalise_text,
    own_of,
    without_unlimited,
)
from tests.differential.parting import find_parting
from vk_provider.jsontypes import Json

TOLERANCE_S = 2.5
"""Around a moment: a tick of the kubelet's PLEG (1 s), a sync and the status manager's batch."""
LASTING_S = 4.0
"""What one side shows at least this long, the other must have shown at all."""
EDGE_S = 3.0
"""An event that comes so shortly before the pod's deletion may have been due just after it on the other side."""
ENDING_S = 4.0
"""By which the durations of deletions may differ; a kubelet's clean-up waits for its 1-2 s ticks."""


@dataclass(frozen=True, slots=True)
class Difference:
    """`kind` groups: it holds no names and numbers of a case. `ours` and `theirs` are what the two sides showed."""

    kind: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.kind}\n    here:    {self.ours}\n    kubelet: {self.theirs}"


def compare(ours: History, theirs: History) -> list[Difference]:
    """Every difference between two closed histories."""
    if parting := find_parting(ours, theirs):
        kind, *said = parting
        return [Difference(generalise(kind), *said)]
    sides = (ours, theirs)
    owns = tuple(own_of(side.namespace, side.node, [item.pod for item in side.versions]) for side in sides)
    found: dict[str, Difference] = {}
    for difference in (
        *_compare_answers(sides, owns),
        *_compare_first(sides, owns),
        *_compare_moments(sides, owns),
        *_compare_lasting(sides, owns),
        *_compare_events(sides, owns),
        *_compare_endings(sides, owns),
    ):
        found.setdefault(difference.kind, difference)
    return list(found.values())


# Answers.


def _compare_answers(sides: tuple[History, History], owns: tuple[Own, ...]) -> Iterator[Difference]:
    for key in dict.fromkeys([*sides[0].answers, *sides[1].answers]):
        values = [normalise(side.answers.get(key), own) for side, own in zip(sides, owns, strict=True)]
        if values[0] is None or values[1] is None:
            yield _difference(f"answer {_verb(key)}: missing", values[0], values[1])
            continue
        for name in dict.fromkeys([*values[0], *values[1]]):
            first, second = values[0].get(name), values[1].get(name)
            if first != second:
                label = (
                    generalise(f": {_gist(first, second)}") if name in ("message", "body", "stderr", "stdout") else ""
                )
                yield _difference(f"answer {_verb(key)}.{name}{label}", first, second)


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
        yield from found


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
        yield _difference(_path_kind(path, ours, theirs), ours, theirs)


def _one_restart_apart(path: str, ours: Any, theirs: Any) -> bool:
    """Two loops of restarts are never in the same step at the same moment."""
    return path.endswith(".restartCount") and bool(ours) and bool(theirs) and abs(ours - theirs) == 1


def _path_kind(path: str, ours: Any, theirs: Any) -> str:
    """The path with container names taken out, and the values where they are words."""
    kind = CONTAINERS.sub(lambda found: f"{found[1]}{found[2] or ''}{'C' if found[2] else 'c'}ontainer", path)
    if isinstance(ours, dict) or isinstance(theirs, dict):
        return f"{kind}: {_summary(ours)} / {_summary(theirs)}"
    if path.endswith(("message", "volumeMounts")) and ours and theirs:
        return f"{kind}: {generalise(_gist(ours, theirs))}"
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
        for here, there, where in ((0, 1, "only here"), (1, 0, "only kubelet")):
            for facet, seconds in spans[here].items():
                if seconds >= LASTING_S and facet not in spans[there]:
                    said = (f"{facet} for {seconds:.0f} s", "never")
                    kind = re.sub(r"^(\w*[cC]ontainer) \S+", r"\1", facet)
                    yield Difference(f"{label} {where}: {generalise(kind)}", *(said if here == 0 else said[::-1]))


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
    early = [_early_conditions(side, own) for side, own in zip(sides, owns, strict=True)]
    if early[0] and early[1]:
        yield from nearest(early[0][:1], early[1], "first status")


def _early_conditions(side: History, own: Own) -> list[Json]:
    found = []
    for version in side.versions:
        status = normalise_status(version.pod, own)
        sandbox = status.get("conditions", {}).get("PodReadyToStartContainers", {})
        if (
            sandbox.get("status") == "True"
            or has_begun(version.pod)
            or version.pod["metadata"].get("deletionTimestamp")
        ):
            break
        if status.get("startTime"):
            found.append({"conditions": _without_generation(status.get("conditions", {}))})
    return found


def _without_generation(conditions: Json) -> Json:
    words = ("status", "reason", "message")
    return {name: {word: item[word] for word in words if item.get(word)} for name, item in conditions.items()}


# Events.


def _compare_events(sides: tuple[History, History], owns: tuple[Own, ...]) -> Iterator[Difference]:
    counted = [_count_events(side, own) for side, own in zip(sides, owns, strict=True)]
    for key in dict.fromkeys([*counted[0], *counted[1]]):
        numbers = [counts.get(key, (0, False)) for counts in counted]
        (here, edge_here), (there, edge_there) = numbers
        kind, reason, message = key
        label = generalise(f"event {kind} {reason}: {message}")
        said = [f"{kind} {reason} x{number}: {message}" if number else "never" for number in (here, there)]
        if here and there:
            if reason not in PER_PASS and abs(here - there) > max(2, 0.35 * max(here, there)):
                yield Difference(f"count of {label}", *said)
        elif not (edge_here or edge_there or (reason == "Killing" and _depends_on_the_moment(sides, message))):
            yield Difference(f"{label} ({'only here' if here else 'only kubelet'})", *said)


PER_PASS = ("BackOff", "DeadlineExceeded", "Failed", "FailedMount", "FailedCreatePodSandBox")
"""Recorded once in every pass of the pod's worker while something stands in its way. How often that comes round is the
worker's own: a kubelet's queue adds up to 10 s to a back-off."""
HICCUPS = (
    # The kubelet's watch of the one object was late: it tries again at once.
    re.compile(r"failed to sync (configmap|secret) cache: timed out waiting for the condition"),
    # A probe has met the end of its container: how far that has come, and whether one meets it at all, is chance.
    re.compile(r"probe errored .*failed to exec in container: (container is in|failed to (load task|create exec))"),
)
"""Events that say nothing about the pod: of a kubelet on a busy machine, of a moment."""
STATUS_LISTS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
AFTER_THE_END = ("ResizeStarted",)
"""What a kubelet's allocation manager records of pods whatever has become of them."""
NODE_EVENTS = ("Scheduled", "FailedScheduling", "TaintManagerEviction")
"""Written by the scheduler and by controllers."""


def _count_events(side: History, own: Own) -> dict[tuple[str, str, str], tuple[int, bool]]:
    """(type, reason, message) -> how often, and whether it came at the edge of the pod's deletion only."""
    counts: dict[tuple[str, str, str], tuple[int, bool]] = {}
    for seen in side.events.values():
        event = seen.event
        if event["involvedObject"].get("uid") not in ("", side.uid) or event.get("reason") in NODE_EVENTS:
            continue
        if any(hiccup.search(str(event.get("message", ""))) for hiccup in HICCUPS):
            continue
        where = str(event["involvedObject"].get("fieldPath", ""))
        message = normalise_text(str(event.get("message", "")), own) + (f" @{where}" if where else "")
        if event.get("reason") in AFTER_THE_END and has_ended_before(side, seen.first):
            message = f"(after the end) {message}"
        key = (str(event.get("type")), str(event.get("reason")), message)
        number = int(event.get("count") or event.get("series", {}).get("count") or 1)
        edge = side.deleted is not None and side.deleted - EDGE_S < seen.first < side.deleted + 0.2
        before, at_edge = counts.get(key, (0, True))
        counts[key] = (before + number, at_edge and edge)
    return counts


# Endings.


def _compare_endings(sides: tuple[History, History], owns: tuple[Own, ...]) -> Iterator[Difference]:
    taken = [side.gone - side.deleted if side.gone and side.deleted else None for side in sides]
    if (taken[0] is None) != (taken[1] is None):
        if all(side.created for side in sides):
            yield _difference("ending: gone", taken[0] is not None, taken[1] is not None)
    elif taken[0] is not None and taken[1] is not None and abs(taken[0] - taken[1]) > ENDING_S:
        slower = "here" if taken[0] > taken[1] else "kubelet"
        again = " after a second deletion" if any(_is_deleted_again(side) for side in sides) else ""
        yield Difference(f"ending{again}: slower {slower}", f"{taken[0]:.1f} s", f"{taken[1]:.1f} s")
    lasts = [normalise_status(side.latest, own) if side.gone else {} for side, own in zip(sides, owns, strict=True)]
    if all(lasts):
        phases = [status.get("phase") for status in lasts]
        if phases[0] != phases[1]:
            yield _difference(f"ending: phase: {phases[0]} / {phases[1]}", *phases)
        codes = [_exit_codes(before_back_off(status)) for status in lasts]
        for name in dict.fromkeys([*codes[0], *codes[1]]):
            if codes[0].get(name) != codes[1].get(name):
                first, second = codes[0].get(name), codes[1].get(name)
                yield _difference(f"ending: container: {first} / {second}", first, second)


def _depends_on_the_moment(sides: tuple[History, History], message: str) -> bool:
    """Whether this is the stop of a container that only on one side ran when its pod was deleted: it is being started
    again and again, and its statuses are compared anyway."""
    stopped = re.match(r"Stopping container \S+ @spec\.\w+\{(.+)\}$", message)
    return stopped is not None and not all(_runs_at_deletion(side, stopped[1]) for side in sides)


def _runs_at_deletion(side: History, name: str) -> bool:
    if side.deleted is None:
        return False
    status = side.between(side.deleted - 0.001, side.deleted - 0.001)[-1:]
    lists = [item.get("status", {}).get(key) or () for item in status for key in STATUS_LISTS]
    return any("running" in (each.get("state") or {}) for found in lists for each in found if each["name"] == name)


def has_ended_before(side: History, moment: float) -> bool:
    """Whether the pod had a terminal phase then, or was being deleted."""
    if side.deleted is not None and side.deleted <= moment:
        return True
    ended = ("Succeeded", "Failed")
    return any(item.at <= moment and item.pod.get("status", {}).get("phase") in ended for item in side.versions)


def _is_deleted_again(side: History) -> bool:
    """Whether somebody deleted the pod once more while it ended."""
    deletions = [key for key, answer in side.answers.items() if _verb(key) == "delete" and answer.get("status") == 200]
    return len(deletions) > 1


def _exit_codes(status: Json) -> dict[str, str]:
    codes = {}
    for key in ("initContainerStatuses", "containerStatuses"):
        for name, container in status.get(key, {}).items():
            state, details = next(iter(container.get("state", {}).items()), ("none", {}))
            codes[name] = f"{state} {(details or {}).get('reason', '')} {(details or {}).get('exitCode', '')}".strip()
    return codes


# Words.


def generalise(text: str) -> str:
    """A kind's text: numbers, quoted words and names of containers of the grammar taken out."""
    text = re.sub(
        r"\b(main|init\d|bad\d|side\d|late\d|more\d|own\d|ruled\d|peer\d|c\d|bare\d|sized\d|debug)\b", "C", text
    )
    text = re.sub(r"\[C( C)*\]", "[C]", text)
    text = re.sub(r"\d+", "N", text)
    return text if len(text) <= 160 else text[:157] + "..."


def _gist(first: Any, second: Any) -> str:
    """The second text from where it departs from the first."""
    ours, theirs = str(first), str(second)
    start = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    start = max(0, start - 12)
    return f"{ours[start : start + 40]!r} / {theirs[start : start + 40]!r}"


def _difference(kind: str, ours: Any, theirs: Any) -> Difference:
    return Difference(kind, str(ours), str(theirs))
