"""Computes the strategic-merge PATCH between two PodStatuses. Pure.

The API merges `conditions` by type, `podIPs` and `hostIPs` by ip; container status lists are replaced whole. Fields
that a kubelet does not write (other controllers' conditions, qosClass, resourceClaimStatuses) are never in the PATCH.
"""

from __future__ import annotations

from typing import Any

from vk_provider.jsontypes import Json
from vk_provider.podmodel.conditions import DISRUPTION_TARGET, KUBELET_CONDITIONS, READY, with_end
from vk_provider.pods.provider_status import INSTANCE_CONDITION

OWNED_FIELDS = (
    "observedGeneration",
    "phase",
    "conditions",
    "message",
    "reason",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
    "resize",
    "resources",
    "allocatedResources",
)
"""Fields of PodStatus that a kubelet writes (pkg/kubelet/status, kubelet_pods.go)."""


_OWNED_FIELDS = frozenset(OWNED_FIELDS)
OWNED_CONDITIONS = KUBELET_CONDITIONS | {DISRUPTION_TARGET, INSTANCE_CONDITION}
"""KUBELET_CONDITIONS are removed when the status lacks them (PodConditionByKubelet). DisruptionTarget is shared."""
_MERGED_BY_IP = ("podIPs", "hostIPs")


def _is_empty(name: str, value: Any) -> bool:
    """A pod that asks for nothing has empty resources, and says so."""
    return not value and value in (None, "", [], {}) and not (name == "resources" and value == {})


def owned_status(status: Json) -> Json:
    """The fields of a status that a kubelet publishes, without empty ones."""
    owned = {
        name: value
        for name, value in status.items()
        if name in _OWNED_FIELDS and (value or not _is_empty(name, value))  # called for every status: few are empty
    }
    if "conditions" in owned:
        owned["conditions"] = [item for item in owned["conditions"] if item["type"] in OWNED_CONDITIONS]
    return owned


def compute_desired(status: Json, ended: Json | None, not_ready: Json | None) -> Json:
    """The desired status (owned_status).

    ended:     terminal phase that is never left, with its reason and message; None: the status's own phase
    not_ready: replaces Ready=True while the agent is silent, else None
    """
    desired = owned_status(status)
    if ended is not None:
        desired = with_end(desired, ended)
    if not_ready is not None and "conditions" in desired:
        desired["conditions"] = [
            not_ready if item["type"] == READY and item["status"] == "True" else item for item in desired["conditions"]
        ]
    return desired


def keep_transition_times(status: Json, published: Json | None, now: str) -> Json:
    """The same status with each condition's lastTransitionTime as seen in the API.

    The agent does not know of a Ready that was False only in the API (its session was down, or the Node's Lease had
    expired): its return to True is a transition now. An unchanged condition keeps the later of both times.
    """
    known = {item["type"]: item for item in (published or {}).get("conditions") or []}
    if not known or "conditions" not in status:
        return status
    return {**status, "conditions": [_keep_time(item, known.get(item["type"]), now) for item in status["conditions"]]}


def _keep_time(condition: Json, known: Json | None, now: str) -> Json:
    known_since = (known.get("lastTransitionTime") or "") if known is not None else ""
    if known is None or (condition.get("lastTransitionTime") or "") >= known_since:
        return condition
    return {**condition, "lastTransitionTime": known_since if known["status"] == condition["status"] else now}


def is_published(published: Json | None, status: Json) -> bool:
    """Whether the API server holds `status` (owned_status) already."""
    if published is None:
        return False
    if published == status:
        return True  # the usual case: what the answer to the last PATCH holds is what was sent
    for name in published.keys() | status.keys():
        if name != "conditions" and published.get(name) != status.get(name):
            return False
    return not _diff_conditions(published.get("conditions") or [], status.get("conditions") or [])


def is_same_status(held: Json, known: Json) -> bool:
    """Whether two owned_statuses say the same: the API server writes nulls, and conditions in an order of its own."""
    if held.keys() != known.keys() or any(held[name] != known[name] for name in held if name != "conditions"):
        return False
    conditions, others = held.get("conditions") or [], _by_type(known.get("conditions") or [])
    return len(conditions) == len(others) and all(_is_equal(others.get(item["type"]), item) for item in conditions)


def share_status(pod: Json, held: Json | None) -> None:
    """Let the status of an API object have the parts of an owned_status that are equal: one copy in memory for each
    pod."""
    status = pod.get("status")
    if not status or not held:
        return
    for name, value in held.items():
        if name != "conditions" and status.get(name) == value:
            status[name] = value
    if status.get("conditions"):
        known = _by_type(held.get("conditions") or [])
        status["conditions"] = [
            known[item["type"]] if known.get(item["type"]) == item else item for item in status["conditions"]
        ]


def build_status_patch(uid: str, published: Json | None, status: Json) -> Json:
    """PATCH body that turns `published` (owned_status of the last one, None: unknown) into `status`."""
    patch: Json = {}
    before = published or {}
    for name in OWNED_FIELDS:
        value, old = status.get(name), before.get(name)
        if value == old:
            continue
        if name == "conditions":
            conditions = _diff_conditions(old or [], value or [])
            if conditions:
                patch[name] = conditions
        elif _is_empty(name, value):
            if not _is_empty(name, old):
                patch[name] = None
        elif value is not None:
            # Addresses merge by ip: that of an earlier instance would stay, and two of a family are refused.
            replaced = name in _MERGED_BY_IP and old
            patch[name] = [{"$patch": "replace"}, *value] if replaced else _merged(old, value)
    return {"metadata": {"uid": uid}, "status": patch}


Altered = dict[tuple[str, str], tuple[Any, Any]]
"""(field of the status, type of the condition or "") -> (value sent, value that the API server stores)."""


def find_altered(patch: Json, sent: Json, held: Json) -> Altered:
    """Fields that the API server does not store as they were sent: quantities in another form, unknown fields.

    patch: the `status` of the PATCH body; sent: the owned_status it was made from; held: owned_status of the answer.
    Only fields of the PATCH are compared: other differences come from other writers.
    """
    altered: Altered = {}
    for name in patch.keys() - {"conditions"}:
        wanted_value, kept_value = (
            None if _is_empty(name, status.get(name)) else status[name] for status in (sent, held)
        )
        if wanted_value != kept_value:
            altered[name, ""] = (sent.get(name), held.get(name))
    wanted, kept = (_by_type(status.get("conditions") or []) for status in (sent, held))
    for item in patch.get("conditions") or []:
        kind = item["type"]
        if kind in wanted and not _is_equal(kept.get(kind), wanted[kind]):
            altered["conditions", kind] = (wanted[kind], kept.get(kind))
    return altered


def as_sent(held: Json, altered: Altered) -> Json:
    """owned_status of the API object, with the `altered` fields in the form in which they were sent."""
    if not altered:
        return held
    restored, conditions = dict(held), _by_type(held.get("conditions") or [])
    for (name, kind), (sent, kept) in altered.items():
        target, key = (conditions, kind) if kind else (restored, name)
        if target.get(key) != kept:
            continue
        if sent is None:
            target.pop(key, None)
        else:
            target[key] = sent
    if conditions:
        restored["conditions"] = list(conditions.values())
    return restored


def _by_type(conditions: list[Json]) -> dict[str, Any]:
    return {item["type"]: item for item in conditions}


def _diff_conditions(old: list[Json], new: list[Json]) -> list[Json]:
    known = {condition["type"]: condition for condition in old}
    wanted = {condition["type"] for condition in new}
    changed = [
        _replace(known.get(item["type"]) or {}, item) for item in new if not _is_equal(known.get(item["type"]), item)
    ]
    passed = (name for name in known if name not in wanted and name in KUBELET_CONDITIONS)
    removed = [{"$patch": "delete", "type": name} for name in passed]
    return changed + removed


def _merged(old: Any, new: Any) -> Any:
    """Maps are merged by key (resources, allocatedResources), so a key that is gone is sent as null."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**{key: None for key in old if key not in new}, **{key: _merged(old.get(key), new[key]) for key in new}}


def _is_equal(known: Json | None, condition: Json) -> bool:
    """The plain comparison first: in most calls nothing has changed, or there is nothing to compare with."""
    return known == condition or (known is not None and _without_nulls(known) == _without_nulls(condition))


def _without_nulls(condition: Json) -> Json:
    """The API server returns a lastProbeTime that was never set as null."""
    return {name: value for name, value in condition.items() if value is not None}


def _replace(old: Json, new: Json) -> Json:
    """A condition is merged field by field, so removed fields are sent as null."""
    return {**{name: None for name in old if name not in new}, **new}
