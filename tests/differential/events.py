"""Compares the events of two histories. Pure.

What depends on the moment alone is left out, each time with what the history says about that moment: a rule never looks
at the text of an event only, or a fault with the same text would go unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.differential.containers import has_run, running_of, statuses_of
from tests.differential.difference import Difference, generalise
from tests.differential.history import History, SeenEvent
from tests.differential.normalise import Own, normalise_text
from vk_provider.jsontypes import Json
from vk_provider.rfc3339 import parse_time

EDGE_S = 3.0
"""An event that comes so shortly before the pod's deletion may have been due just after it on the other side."""
LAG_S = 0.2
"""By which the watch of events may be behind that of pods."""
MOMENT_S = 2.5
"""Within which two pods may be in another step: a tick of the kubelet's PLEG (1 s), a sync and the status's batch."""
SPAM_BURST = 25
"""Events of one type that a pod may have at once (client-go's spam filter); which are lost then is chance."""
PER_PASS = ("BackOff", "DeadlineExceeded", "Failed", "FailedMount", "FailedCreatePodSandBox")
"""Recorded once in every pass of the pod's worker while something stands in its way. How often that comes round is the
worker's own: a kubelet's queue adds up to 10 s to a back-off, and to each of its own doublings of it."""
PER_PASS_FACTOR, PER_PASS_SLACK = 4, 6
"""Beyond these a count of those is a difference, too: one side makes passes without a pause, or has stopped making any.
"""
AFTER_THE_END = ("ResizeStarted",)
"""What a kubelet's allocation manager records of pods whatever has become of them."""
OF_IMAGES = ("Pulled", "Pulling")
OF_STEPS = ("Killing", "Pulled", "Created", "Started")
"""Of each container, so that a pod of many has more than it may record."""
NODE_EVENTS = ("Scheduled", "FailedScheduling", "TaintManagerEviction")
"""Written by the scheduler and by controllers."""
LATE_WATCH = re.compile(
    r"failed to sync (configmap|secret) cache: timed out waiting for the condition|object \S+ not registered"
)
"""The kubelet's watch of the one object was late, or it had not registered the pod with it, or no more: it tries again
at once. Ours has no such watch, so its own words of this kind are a fault."""
AT_AN_END = re.compile(
    r"(\w+) probe (failed: ?$|"
    r"errored .*failed to exec in container: (container is in|failed to (load task|create exec)))"
)
"""A probe has met the end of its container: how far that has come, and whether one meets it at all, is chance."""
PULL_FAILED = "Error: ErrImagePull"
PASS_S = 15.0
"""A kubelet's pass that failed is followed by the next one after 10 to 15 s (backOffPeriod with its jitter)."""
MEETINGS = 3
"""Of each kind of probe with one end: the one under way, a tick and one that a pass triggers."""
BY_SIGNAL = (137, 143)
"""Exit codes of a container that was stopped."""
STATUS_LAG_S = 2.0
"""By which a status may be behind the containers: a tick of the kubelet's PLEG and its PATCH, in whole seconds."""


@dataclass(slots=True)
class Counted:
    """Equal events of one side. edge: all came just before the deletion, so the other side's may be due after it."""

    number: int = 0
    edge: bool = True
    seen: list[SeenEvent] = field(default_factory=list)


Key = tuple[str, str, str]
"""Type, reason and message (with the container)."""


def compare_events(sides: tuple[History, History], owns: tuple[Own, ...]) -> Iterator[Difference]:
    """What only one side has recorded, and what one has recorded far more often. The second side is the kubelet's."""
    counted = [_count(side, own, index == 1) for index, (side, own) in enumerate(zip(sides, owns, strict=True))]
    for key in dict.fromkeys([*counted[0], *counted[1]]):
        both = [counts.get(key, Counted()) for counts in counted]
        kind, reason, message = key
        label = generalise(f"event {kind} {reason}: {message}")
        said = [f"{kind} {reason} x{each.number}: {message}" if each.number else "never" for each in both]
        if both[0].number and both[1].number:
            if _count_differs(reason, both[0].number, both[1].number):
                yield Difference(f"count of {label}", *said)
            continue
        here = 0 if both[0].number else 1
        of_the_moment = _is_of_the_moment(sides[here], sides[1 - here], reason, message) or (
            reason == "BackOff"
            and all(
                _ends_a_pass_of_before(sides[here], seen) or _is_one_of_two(sides, seen) for seen in both[here].seen
            )
        )
        if here == 0 and all(_is_due_with_the_next_pass(sides[1], seen) for seen in both[0].seen):
            continue
        if not both[here].edge and not of_the_moment and not _has_spent_all(sides[1 - here], kind, reason):
            yield Difference(f"{label} ({('only here', 'only kubelet')[here]})", *said)


def _count_differs(reason: str, ours: int, theirs: int) -> bool:
    less, more = sorted((ours, theirs))
    if reason in PER_PASS:
        return more > PER_PASS_FACTOR * less + PER_PASS_SLACK
    return more - less > max(2, 0.35 * more)


def _count(side: History, own: Own, is_kubelet: bool) -> dict[Key, Counted]:
    counts: dict[Key, Counted] = {}
    meetings: dict[str, int] = {}
    for seen in side.events.values():
        event = seen.event
        text, where = str(event.get("message", "")), str(event["involvedObject"].get("fieldPath", ""))
        if event["involvedObject"].get("uid") not in ("", side.uid) or event.get("reason") in NODE_EVENTS:
            continue
        number = int(event.get("count") or event.get("series", {}).get("count") or 1)
        if is_kubelet and LATE_WATCH.search(text):
            continue
        name = _container(where)
        if (met := AT_AN_END.search(text)) and all(_ends_near(side, name, at) for at in (seen.first, seen.last)):
            met_by = f"{met[1]} {name}"
            meetings[met_by] = meetings.get(met_by, 0) + number
            if meetings[met_by] <= MEETINGS * ends_of(side, name):
                continue
        message = normalise_text(text, own) + (f" @{where}" if where else "")
        if event.get("reason") in AFTER_THE_END and has_ended_before(side, seen.first):
            message = f"(after the end) {message}"
        if event.get("reason") in OF_IMAGES and not has_run(side, name):
            message = f"(never started) {message}"
        found = counts.setdefault((str(event.get("type")), str(event.get("reason")), message), Counted())
        found.number += number
        found.seen.append(seen)
        found.edge = found.edge and _is_at_the_edge(side, seen)
    return counts


def _is_at_the_edge(side: History, seen: SeenEvent) -> bool:
    """What follows from the deletion itself is due on both sides."""
    return not _stopped(str(seen.event.get("message", ""))) and _is_just_before_deletion(side, seen.first)


def _is_just_before_deletion(side: History, moment: float) -> bool:
    return side.deleted is not None and side.deleted - EDGE_S < moment < side.deleted + LAG_S


def _container(where: str) -> str:
    found = re.fullmatch(r"spec\.\w+\{(.+)\}", where)
    return found[1] if found else ""


def _stopped(message: str) -> str:
    """The container that the event says is being stopped with its pod, "" when it says something else."""
    found = re.match(r"Stopping container (\S+)", message)
    return found[1] if found else ""


def _is_of_the_moment(side: History, other: History, reason: str, message: str) -> bool:
    """Whether this is the stop of a container that ran when its pod was deleted on this side, and on the other side was
    between two of its runs, had just ended or not begun yet, or was just being stopped for its probe."""
    name = _stopped(message) if reason == "Killing" else ""
    if not name or not _runs_at_deletion(side, name):
        return False
    if _runs_at_deletion(other, name) and not _ends_as_it_is_deleted(other, name):
        return False
    return _restarts(side, name) + _restarts(other, name) > 0 or _has_changed_before_deletion((side, other), name)


def _is_due_with_the_next_pass(kubelet: History, seen: SeenEvent) -> bool:
    """Whether the image's back-off is said here and the kubelet, which has tried the pull once, too, would say it with
    its next pass, for which its pod was deleted too early."""
    if kubelet.deleted is None or "ImagePullBackOff" not in _text(seen) and "Back-off pulling" not in _text(seen):
        return False
    pulls = [each for each in kubelet.events.values() if _text(each) == PULL_FAILED and _place(each) == _place(seen)]
    return any(each.first > kubelet.deleted - PASS_S for each in pulls)


def _text(seen: SeenEvent) -> str:
    return str(seen.event.get("message", ""))


def _ends_a_pass_of_before(side: History, seen: SeenEvent) -> bool:
    """Whether a container was being killed for its probe when the pod was deleted: a kubelet's pass goes on from there
    to the next start, which it may have to put off."""
    if side.deleted is None or seen.first < side.deleted:
        return False
    name = _container(_place(seen))
    return any(side.deleted - EDGE_S < moment < seen.first for moment in _kills_for_probes(side, name))


def _place(seen: SeenEvent) -> str:
    return str(seen.event["involvedObject"].get("fieldPath", ""))


def _kills_for_probes(side: History, name: str) -> list[float]:
    """When the container was stopped for its probe, to be started again."""
    return [
        seen.last
        for seen in side.events.values()
        if "will be restarted" in str(seen.event.get("message", "")) and _container(_place(seen)) == name
    ]


def _has_spent_all(side: History, kind: str, reason: str) -> bool:
    """Whether a step of a container was not recorded on this side as its pod had no event of the type left."""
    spent = (
        int(seen.event.get("count") or 1)
        for seen in side.events.values()
        if seen.event.get("type") == kind and seen.event.get("reason") not in NODE_EVENTS
    )
    return reason in OF_STEPS and sum(spent) >= SPAM_BURST


def _is_one_of_two(sides: tuple[History, History], seen: SeenEvent) -> bool:
    """Whether the container that ended has an image that cannot be pulled: which of its two back-offs a pass meets
    depends on when it comes, the container's counts from its end and the image's from the pull (doBackOff)."""
    place = seen.event["involvedObject"].get("fieldPath")
    return "restarting failed" in str(seen.event.get("message")) and all(
        any(
            str(other.event.get("message", "")).startswith("Back-off pulling image")
            and other.event["involvedObject"].get("fieldPath") == place
            for other in side.events.values()
        )
        for side in sides
    )


def _runs_at_deletion(side: History, name: str) -> bool:
    if side.deleted is None:
        return False
    return any(_runs(pod, name) for pod in side.between(side.deleted - 0.001, side.deleted - 0.001)[-1:])


def _ends_as_it_is_deleted(side: History, name: str) -> bool:
    """Whether the container, which the status still shows as running, was ending then: by itself, or for its probe."""
    if any(_is_just_before_deletion(side, moment) for moment in _kills_for_probes(side, name)):
        return True
    asked = next((t for item in side.versions if (t := _asked_to_go(item.pod)) is not None), None)
    ends = [
        parse_time(end["finishedAt"])
        for item in side.versions
        for each in statuses_of(item.pod, name)
        for end in _ends(each)
        if end.get("finishedAt") and end.get("exitCode") not in BY_SIGNAL
    ]
    return asked is not None and any(asked - STATUS_LAG_S <= end <= asked + 1 for end in ends)


def _asked_to_go(pod: Json) -> float | None:
    """When the pod was deleted, by the API server's clock in whole seconds; None while it is not."""
    metadata = pod["metadata"]
    if not metadata.get("deletionTimestamp"):
        return None
    return parse_time(metadata["deletionTimestamp"]) - float(metadata.get("deletionGracePeriodSeconds") or 0)


def _ends(container: Json) -> list[Json]:
    states = (container.get("state") or {}, container.get("lastState") or {})
    return [state["terminated"] for state in states if "terminated" in state]


def _has_changed_before_deletion(sides: tuple[History, History], name: str) -> bool:
    """Whether the container began or ended on one of the sides just before its deletion."""
    for side in sides:
        if side.deleted is None:
            return False
        looks = {_runs(pod, name) for pod in side.between(side.deleted - MOMENT_S, side.deleted - 0.001)}
        if len(looks) > 1:
            return True
    return False


def _runs(pod: Json, name: str) -> bool:
    return name in running_of(pod)


def _restarts(side: History, name: str) -> int:
    return max(
        (each.get("restartCount") or 0 for item in side.versions for each in statuses_of(item.pod, name)), default=0
    )


def ends_of(side: History, name: str) -> int:
    """How often a container may have ended: before each restart, and at last."""
    return _restarts(side, name) + 1


def _ends_near(side: History, name: str, moment: float) -> bool:
    """Whether the container has ended about then: it runs no more, or it is another one that does."""
    if side.gone is not None and side.gone < moment + MOMENT_S:
        return True
    pods = side.between(moment - MOMENT_S, moment + MOMENT_S)
    return len({(_runs(pod, name), *(each.get("restartCount") for each in statuses_of(pod, name))) for pod in pods}) > 1


def has_ended_before(side: History, moment: float) -> bool:
    """Whether the pod had a terminal phase then, or was being deleted."""
    if side.deleted is not None and side.deleted <= moment:
        return True
    ended = ("Succeeded", "Failed")
    return any(item.at <= moment and item.pod.get("status", {}).get("phase") in ended for item in side.versions)
