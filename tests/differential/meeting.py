"""What met the end of the pod: a deadline that passed, a change of its spec, or a pass that went on. On which side of
the end it came is chance, so only what was before is compared. Pure."""

from __future__ import annotations

from tests.differential.containers import STATUS_LISTS
from tests.differential.history import History, until
from vk_provider.jsontypes import Json

MOMENT_S = 2.5
"""Within which two pods may be in another step: a tick of the kubelet's PLEG (1 s), a sync and the status's batch."""
TERMINAL = ("Succeeded", "Failed")
DEADLINE = "DeadlineExceeded"


BEFORE_S = 0.001


def until_what_met_the_end(ours: History, theirs: History) -> tuple[History, History]:
    """The histories up to there; the same ones when nothing did."""
    stops = _asked_to_stop(ours), _asked_to_stop(theirs)
    if stops[0] is not None and stops[1] is not None and _starts_after(theirs, stops[1]):
        return until(ours, stops[0] - BEFORE_S), until(theirs, stops[1] - BEFORE_S)
    ends = _end_of(ours), _end_of(theirs)
    if ends[0] is None or ends[1] is None:
        return ours, theirs
    if (
        _deadline_met(ours, theirs)
        or _is_measured_late(ours, theirs)
        or any(_changes_at(ours, key, ends[0]) and _changes_at(theirs, key, ends[1]) for key in ours.asked)
    ):
        return until(ours, ends[0][0] - BEFORE_S), until(theirs, ends[1][0] - BEFORE_S)
    return ours, theirs


def _asked_to_stop(side: History) -> float | None:
    """When the pod was deleted, or its node began to evict it."""
    evicted = [seen.first for seen in side.events.values() if seen.event.get("reason") == "Evicted"]
    return min([*evicted, *([side.deleted] if side.deleted is not None else [])], default=None)


def _starts_after(kubelet: History, moment: float) -> bool:
    """Whether a container was started again after the pod was to stop: a kubelet's pass goes on to the start of what it
    stops, for a probe or another image, though the pod is deleted or evicted meanwhile."""
    before = [item.pod for item in kubelet.versions if item.at < moment][-1:]
    counts = _runs_of(before[0]) if before else {}
    after = [_runs_of(item.pod) for item in kubelet.versions if item.at >= moment]
    return any(count > counts[name] for runs in after for name, count in runs.items() if name in counts)


def _runs_of(pod: Json) -> dict[str, int]:
    """Restarts of the containers that run."""
    status = pod.get("status", {})
    return {
        str(each["name"]): int(each.get("restartCount") or 0)
        for key in STATUS_LISTS
        for each in status.get(key) or ()
        if "running" in (each.get("state") or {})
    }


def _end_of(side: History) -> tuple[float, float] | None:
    """When the last container ended, and when the pod's phase said so."""
    done = next((item.at for item in side.versions if item.pod.get("status", {}).get("phase") in TERMINAL), None)
    if done is None:
        return None
    ended = done
    for item in reversed([item for item in side.versions if item.at <= done]):
        if not _all_ended(item.pod) and item.at < done:
            break
        ended = item.at
    return ended, done


def _all_ended(pod: Json) -> bool:
    containers = pod.get("status", {}).get("containerStatuses") or ()
    return bool(containers) and all("terminated" in (each.get("state") or {}) for each in containers)


def _deadline_met(ours: History, theirs: History) -> bool:
    """Whether the deadline passed when one pod had just ended, and for the other, which had not, at that moment."""
    passed = [_passed_at(side) for side in (ours, theirs)]
    if (passed[0] is None) == (passed[1] is None):
        return False
    late, early = (ours, theirs) if passed[0] is not None else (theirs, ours)
    moment, end, other = passed[0] if passed[0] is not None else passed[1], _end_of(late), _end_of(early)
    if moment is None or end is None or other is None:
        return False
    offset = _origin(early) - _origin(late)
    return _meets(moment, end) and _meets(moment + offset, other)


def _is_measured_late(ours: History, theirs: History) -> bool:
    """Whether our pod was evicted for a full emptyDir and the kubelet's, which measures it once a minute and looks at
    that every 10 s, ran into its deadline before."""
    evicted = [item.pod["status"] for item in ours.versions if item.pod.get("status", {}).get("reason") == "Evicted"]
    is_full = bool(evicted) and str(evicted[-1].get("message", "")).startswith("Usage of EmptyDir volume")
    return is_full and _passed_at(theirs) is not None


def _passed_at(side: History) -> float | None:
    """When the side first said so."""
    said = [item.at for item in side.versions if item.pod.get("status", {}).get("reason") == DEADLINE]
    said += [seen.first for seen in side.events.values() if seen.event.get("reason") == DEADLINE]
    return min(said, default=None)


def _origin(side: History) -> float:
    return side.started if side.started is not None else side.versions[0].at


def _meets(moment: float, end: tuple[float, float]) -> bool:
    return end[0] - MOMENT_S <= moment <= end[1] + MOMENT_S


def _changes_at(side: History, key: str, end: tuple[float, float]) -> bool:
    """Whether this action has changed the spec as the pod ended."""
    asked = side.asked.get(key)
    if asked is None or not key.endswith(" patch") or not _meets(asked, end):
        return False
    before, *after = side.between(asked - 0.05, asked + 1.0)
    return any(_generation(pod) > _generation(before) and not _is_deleted(pod) for pod in after)


def _generation(pod: Json) -> int:
    return int(pod["metadata"].get("generation") or 0)


def _is_deleted(pod: Json) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))
