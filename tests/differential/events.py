"""Compares the events of two histories. Pure.

What depends on the moment alone is left out, each time with what the history says about that moment: a rule never looks
at the text of an event only, or a fault with the same text would go unseen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.differential.containers import has_run
from tests.differential.difference import Difference, generalise
from tests.differential.history import History, SeenEvent
from tests.differential.moments import (
    EDGE_S,
    container_of,
    ends_as_it_is_deleted,
    ends_near,
    ends_of,
    has_changed_before_deletion,
    has_ended_before,
    image_changed_after,
    is_just_before_deletion,
    kills_for_probes,
    place_of,
    resources_before,
    restarts,
    runs_at_deletion,
    text_of,
)
from tests.differential.normalise import Own, normalise_text
from vk_provider.jsontypes import Json

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
OF_FAILED_PULLS = ("Failed",)
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


@dataclass(slots=True)
class Counted:
    """Equal events of one side. edge: all came just before the deletion, so the other side's may be due after it. met:
    those that met an end of their container (AT_AN_END) and count for nothing, but say that there were some. is_open:
    they went on after the moment up to which the histories are compared."""

    number: int = 0
    met: int = 0
    is_open: bool = False
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
        said = [f"{kind} {reason} x{each.number}: {message}" if each.number else "never" for each in both]
        if both[0].number and both[1].number:
            is_open = any(each.is_open for each in both)
            if not is_open and _count_differs(reason, both[0].number, both[1].number):
                yield Difference(f"count of {generalise(f'event {kind} {reason}: {message}')}", *said)
            continue
        if not any(each.number for each in both) or any(each.met for each in both):
            continue
        here = 0 if both[0].number else 1
        if both[here].edge or _is_chance(sides, here, key, both[here]):
            continue
        if here == 0 and reason in OF_FAILED_PULLS and not _has_tried(sides[1], both[0].seen):
            message = f"(fetched ahead) {message}"
        where = ("only here", "only kubelet")[here]
        yield Difference(f"{generalise(f'event {kind} {reason}: {message}')} ({where})", *said)


def _is_chance(sides: tuple[History, History], here: int, key: Key, found: Counted) -> bool:
    """Whether it depends on the moment alone that only this side has recorded it."""
    (kind, reason, message), side, other = key, sides[here], sides[1 - here]
    if reason == "BackOff" and all(
        _ends_a_pass_of_before(side, seen) or _is_one_of_two(sides, seen) for seen in found.seen
    ):
        return True
    if all(_is_due_with_the_next_pass(other, seen, is_kubelet=here == 0) for seen in found.seen):
        return True
    if here == 1 and reason == "ResizeCompleted" and all(_is_told_of_before(sides, seen) for seen in found.seen):
        return True
    return _is_of_the_moment(side, other, reason, message) or _has_spent_all(other, kind, reason)


def _count_differs(reason: str, ours: int, theirs: int) -> bool:
    less, more = sorted((ours, theirs))
    if reason in PER_PASS:
        return more > PER_PASS_FACTOR * less + PER_PASS_SLACK
    return more - less > max(2, 0.35 * more)


def _count(side: History, own: Own, is_kubelet: bool) -> dict[Key, Counted]:
    counts: dict[Key, Counted] = {}
    meetings: dict[str, int] = {}
    for seen in side.events.values():
        event, text = seen.event, text_of(seen)
        if event["involvedObject"].get("uid") not in ("", side.uid) or event.get("reason") in NODE_EVENTS:
            continue
        number = int(event.get("count") or event.get("series", {}).get("count") or 1)
        if is_kubelet and LATE_WATCH.search(text):
            continue
        name = container_of(place_of(seen))
        found = counts.setdefault(_key(side, seen, own), Counted())
        if (met := AT_AN_END.search(text)) and all(ends_near(side, name, at) for at in (seen.first, seen.last)):
            met_by = f"{met[1]} {name}"
            meetings[met_by] = meetings.get(met_by, 0) + number
            if meetings[met_by] <= MEETINGS * ends_of(side, name):
                found.met += number
                continue
        found.number += number
        found.seen.append(seen)
        found.edge = found.edge and _is_at_the_edge(side, seen)
        found.is_open = found.is_open or (side.closed is not None and seen.last > side.closed)
    return counts


def _key(side: History, seen: SeenEvent, own: Own) -> Key:
    where, reason = place_of(seen), str(seen.event.get("reason"))
    message = normalise_text(text_of(seen), own) + (f" @{where}" if where else "")
    if reason in AFTER_THE_END and has_ended_before(side, seen.first):
        message = f"(after the end) {message}"
    if reason in OF_IMAGES and not has_run(side, container_of(where)):
        message = f"(never started) {message}"
    return str(seen.event.get("type")), reason, message


def _is_at_the_edge(side: History, seen: SeenEvent) -> bool:
    """What follows from the deletion itself is due on both sides."""
    return not _stopped(str(seen.event.get("message", ""))) and is_just_before_deletion(side, seen.first)


def _stopped(message: str) -> str:
    """The container that the event says is being stopped with its pod, "" when it says something else."""
    found = re.match(r"Stopping container (\S+)", message)
    return found[1] if found else ""


def _is_of_the_moment(side: History, other: History, reason: str, message: str) -> bool:
    """Whether this is the stop of a container that ran when its pod was deleted on this side, and on the other side was
    between two of its runs, had just ended or not begun yet, or was just being stopped for its probe."""
    name = _stopped(message) if reason == "Killing" else ""
    if not name or not runs_at_deletion(side, name):
        return False
    if runs_at_deletion(other, name) and not ends_as_it_is_deleted(other, name):
        return False
    return restarts(side, name) + restarts(other, name) > 0 or has_changed_before_deletion((side, other), name)


def _is_due_with_the_next_pass(other: History, seen: SeenEvent, *, is_kubelet: bool) -> bool:
    """Whether the image's back-off is said here and the other side, which has tried the pull once, too, would say it
    with its next pass, before which the image was changed, or, as a kubelet's pass is late, the pod deleted."""
    if "ImagePullBackOff" not in text_of(seen) and "Back-off pulling" not in text_of(seen):
        return False
    place = place_of(seen)
    pulls = [each.first for each in other.events.values() if text_of(each) == PULL_FAILED and place_of(each) == place]
    limits = [each for each in (image_changed_after(other, container_of(place), at) for at in pulls) if each]
    limits += [other.deleted] if is_kubelet and other.deleted is not None else []
    return any(at > limit - PASS_S for at in pulls for limit in limits)


def _is_told_of_before(sides: tuple[History, History], seen: SeenEvent) -> bool:
    """Whether a pass of the kubelet that had begun with the pod from before a resize has told that the resize was
    completed, with the resources from before, and one with the new pod has told it again, as both sides have: a race
    that its source names (SyncPod, the condition that the allocation manager sets meanwhile)."""
    told = [_resize_of(each) for side in sides for each in side.events.values()]
    mine = _resize_of(seen)
    twice = sum(each is not None and each[0] == mine[0] for each in told) > 2 if mine else False
    return bool(mine and twice and mine[1] in resources_before(sides[1], mine[0]))


def _resize_of(seen: SeenEvent) -> tuple[int, Json] | None:
    """Generation, and resources by container, of a resize that was completed."""
    found = re.match(r"Pod resize completed: (\{.*\})$", text_of(seen))
    if found is None:
        return None
    said = json.loads(found[1])
    containers = [*said.get("initContainers", ()), *said.get("containers", ())]
    return int(said["generation"]), {each["name"]: each["resources"] for each in containers}


def _has_tried(kubelet: History, ours: list[SeenEvent]) -> bool:
    """Whether the kubelet has come to the image of the container, too."""
    places = {place_of(seen) for seen in ours}
    reasons = (*OF_IMAGES, *OF_FAILED_PULLS, "BackOff", "Created")
    return any(place_of(seen) in places and seen.event.get("reason") in reasons for seen in kubelet.events.values())


def _ends_a_pass_of_before(side: History, seen: SeenEvent) -> bool:
    """Whether a container was being killed for its probe when the pod was deleted: a kubelet's pass goes on from there
    to the next start, which it may have to put off."""
    if side.deleted is None or seen.first < side.deleted:
        return False
    name = container_of(place_of(seen))
    return any(side.deleted - EDGE_S < moment < seen.first for moment in kills_for_probes(side, name))


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
