"""Pairs whose twins went different ways as a whole: one difference says why, instead of all that follows. Pure."""

from __future__ import annotations

from tests.differential.containers import STATUS_LISTS
from tests.differential.history import History
from tests.differential.later import UNTOUCHED
from vk_provider.jsontypes import Json

TERMINAL = ("Succeeded", "Failed")
REFUSAL = "PodFeatureUnsupported"
RECONCILED_S = 11.0
"""A kubelet's status manager compares what it has with what the API holds every 10 s."""


def find_parting(ours: History, theirs: History) -> tuple[str, str, str] | None:
    """(kind, ours, theirs) of what parted the twins, None when nothing did."""
    refusals = [_refusal(side) for side in (ours, theirs)]
    if refusals[0] and not refusals[1]:
        return f"refused here: {refusals[0]}", refusals[0], "tried"
    ended = [has_followed_another(side) or has_ended_while_it_waited(side) for side in (ours, theirs)]
    if ended[0] != ended[1]:
        where = "here" if ended[0] else "kubelet"
        said = ("the pod ends", "it goes on")
        return f"ended by a phase that another has set (only {where})", *(said if ended[0] else said[::-1])
    return None


def _refusal(side: History) -> str:
    status: Json = side.latest.get("status", {})
    return str(status.get("message", "")) if status.get("reason") == REFUSAL else ""


def has_followed_another(side: History) -> bool:
    """Whether another writer has set a terminal phase while containers ran, and they ended before anybody asked."""
    was_set = False
    for version in side.versions:
        if side.deleted is not None and version.at >= side.deleted:
            break
        status = version.pod.get("status", {})
        if status.get("phase") not in TERMINAL:
            continue
        runs = any("running" in (item.get("state") or {}) for item in status.get("containerStatuses") or ())
        if was_set and not runs:
            return True
        was_set = was_set or runs
    return False


def has_ended_while_it_waited(side: History) -> bool:
    """Whether another writer has set a terminal phase while a container waited and none ran, and it stayed, longer than
    a status manager needs to put it back."""
    before: Json = {}
    since: float | None = None
    for version in side.versions:
        if side.deleted is not None and version.at >= side.deleted:
            break
        status = version.pod.get("status", {})
        if status.get("phase") not in TERMINAL:
            before, since = status, None
        elif since is None and before.get("containerStatuses"):
            states = [item.get("state") or {} for key in STATUS_LISTS for item in before.get(key) or ()]
            is_foreign = all(status.get(key) == before.get(key) for key in UNTOUCHED)
            if is_foreign and any("waiting" in state for state in states) and not any("running" in s for s in states):
                since = version.at
    end = side.deleted if side.deleted is not None else side.closed
    return since is not None and end is not None and end - since > RECONCILED_S
