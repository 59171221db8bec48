"""What a kubelet says or does later than this node, on purpose or by its ways: told from the histories, so that the
list of known differences matches nothing else. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf

from tests.differential.containers import STATUS_LISTS, has_run, running_of
from tests.differential.history import History, until
from vk_provider.jsontypes import Json

OF_BEFORE = "(of the pass before)"
OF_ANOTHER = "(of another)"
ENDING_S = 4.0
"""By which the durations of deletions may differ; a kubelet's clean-up waits for its 1-2 s ticks."""
FORCED_S = 1.5
"""Within which a pod is gone after a deletion without grace, if nothing holds it."""

WORDS = ("reason", "message")
UNTOUCHED = ("conditions", "startTime", *STATUS_LISTS)

Said = dict[str, set[tuple[str, str]]]
"""Container -> what its status has said of why it waits: reason and message."""


def _waiting(container: Json) -> tuple[str, str] | None:
    waiting = (container.get("state") or {}).get("waiting")
    return (str(waiting.get("reason")), str(waiting.get("message", ""))) if waiting else None


def said_in(statuses: list[Json]) -> Said:
    """Of normalised statuses."""
    said: Said = {}
    for status in statuses:
        for key in STATUS_LISTS:
            for name, container in (status.get(key) or {}).items():
                if words := _waiting(container):
                    said.setdefault(name, set()).add(words)
    return said


def with_reasons_of_before(status: Json, said: Said) -> Json:
    """A kubelet's normalised status, each reason for waiting that our side has said before put into one word: the
    kubelet fills in what the pass before has met (the reasonCache), so it repeats the older one for a pass more."""
    changed = dict(status)
    for key in STATUS_LISTS:
        if key in status:
            changed[key] = {
                name: {**container, "state": {"waiting": {"reason": OF_BEFORE, "message": OF_BEFORE}}}
                if _waiting(container) in said.get(name, ())
                else container
                for name, container in status[key].items()
            }
    return changed


def last_states(statuses: list[Json]) -> set[tuple[str, str, object, object]]:
    """List, container, reason and exit code of what normalised statuses call the last state of one that waits."""
    return {
        (key, name, ended.get("reason"), ended.get("exitCode"))
        for status in statuses
        for key in STATUS_LISTS
        for name, container in (status.get(key) or {}).items()
        if _waiting(container) and (ended := (container.get("lastState") or {}).get("terminated"))
    }


Foreign = tuple[set[str], set[tuple[str, object]]]
"""Reasons and messages of a pod, and (type, observedGeneration) of conditions."""


def mark_words_of_another(*sides: History) -> tuple[History, ...]:
    """The histories with each of what another writer has put into the statuses of both put into one word."""
    found = [_words_of_another(side) for side in sides]
    words, generations = (set.intersection(*(each[part] for each in found)) for part in (0, 1))
    if not words and not generations:
        return sides
    return tuple(
        replace(side, versions=[replace(item, pod=_marked(item.pod, words, generations)) for item in side.versions])
        for side in sides
    )


def _words_of_another(side: History) -> Foreign:
    """Reason and message that came with nothing else, or perhaps the phase, changed; observedGeneration of conditions
    that came with nothing else changed. All after the first patch of the case: before it nobody else writes."""
    words: set[str] = set()
    generations: set[tuple[str, object]] = set()
    patched = min((at for key, at in side.asked.items() if key.endswith(" patch")), default=inf)
    for item, following in pairwise(side.versions):
        if following.at < patched:
            continue
        before, after = item.pod.get("status", {}), following.pod.get("status", {})
        if all(before.get(key) == after.get(key) for key in UNTOUCHED):
            words.update(str(after[key]) for key in WORDS if after.get(key) and after[key] != before.get(key))
        elif _without_generations(before) == _without_generations(after):
            generations.update(_generations(after) - _generations(before))
    return words, generations


def _generations(status: Json) -> set[tuple[str, object]]:
    return {(item["type"], item.get("observedGeneration")) for item in status.get("conditions") or ()}


def _without_generations(status: Json) -> Json:
    conditions = status.get("conditions") or ()
    left = [{key: item[key] for key in item if key != "observedGeneration"} for item in conditions]
    return {**status, "conditions": left}


def _marked(pod: Json, words: set[str], generations: set[tuple[str, object]]) -> Json:
    status = pod.get("status", {})
    changed = {**status, **{key: OF_ANOTHER for key in WORDS if status.get(key) in words}}
    if "conditions" in status:
        changed["conditions"] = [
            {**item, "observedGeneration": OF_ANOTHER}
            if (item["type"], item.get("observedGeneration")) in generations
            else item
            for item in status["conditions"] or ()
        ]
    return {**pod, "status": changed}


def without_ends_lost_by_eviction(ours: History, theirs: History) -> tuple[History, History]:
    """The histories without what the statuses of an evicted pod say of containers whose end the kubelet has lost.

    As soon as a pod is to be evicted, a kubelet removes its containers when its PLEG sees their end
    (cleanUpContainersInPod, ShouldPodContentBeRemoved), be it before the status that tells of it is generated: then it
    says ContainerStatusUnknown. Here the end is always told.
    """
    lost = {
        str(each["name"])
        for item in theirs.versions
        if is_evicted(item.pod)
        for key in STATUS_LISTS
        for each in item.pod["status"].get(key) or ()
        if not each.get("containerID") and has_run(theirs, each["name"])
    }
    return (_without(ours, lost), _without(theirs, lost)) if lost else (ours, theirs)


def is_evicted(pod: Json) -> bool:
    """Whether the status says so."""
    return bool(pod.get("status", {}).get("reason") == "Evicted")


def _without(side: History, names: set[str]) -> History:
    def kept(status: Json) -> Json:
        lists = {key: [each for each in status.get(key) or () if each["name"] not in names] for key in STATUS_LISTS}
        return {**status, **{key: left for key, left in lists.items() if key in status}}

    versions = [
        replace(item, pod={**item.pod, "status": kept(item.pod["status"])}) if is_evicted(item.pod) else item
        for item in side.versions
    ]
    return replace(side, versions=versions)


def _deletions(side: History) -> list[str]:
    """Keys of those that the API server took."""
    return [key for key, answer in side.answers.items() if key.endswith(" delete") and answer.get("status") == 200]


def is_deleted_again(side: History) -> bool:
    """Whether somebody deleted the pod once more while it ended."""
    return len(_deletions(side)) > 1


def _stopped_s(side: History) -> float | None:
    """From the first deletion until no container ran, or the pod was gone; None when it was not deleted, or ran on."""
    if side.deleted is None:
        return None
    ends = [item.at for item in side.versions if item.at >= side.deleted and not running_of(item.pod)]
    ends += [side.gone] if side.gone is not None else []
    return min(ends) - side.deleted if ends else None


def heeds_only_the_first(ours: History, theirs: History) -> bool:
    """Whether both were deleted twice, and the kubelet alone has waited on."""
    stopped = [_stopped_s(side) for side in (ours, theirs)]
    if not all(is_deleted_again(side) for side in (ours, theirs)) or stopped[0] is None:
        return False
    return stopped[1] is None or stopped[1] - stopped[0] > ENDING_S


def until_the_second_deletion(side: History) -> History:
    """The history up to there, with no end of the pod."""
    return until(side, side.asked.get(_deletions(side)[1], side.deleted or 0.0), with_stops=True)


def was_forced(side: History) -> bool:
    """Whether a deletion without grace took the object away at once, whatever its node had said by then."""
    return side.forced is not None and side.gone is not None and side.gone - side.forced < FORCED_S
