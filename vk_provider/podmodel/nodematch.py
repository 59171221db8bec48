"""Whether a pod may be on its Node: nodeSelector, required node affinity, and taints with the effect NoExecute. Pure.

Source: component-helpers' scheduling/corev1/nodeaffinity and core/v1/toleration.go, as a kubelet's admission calls them
(pkg/kubelet/lifecycle/predicate.go, generalFilter).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from vk_provider.jsontypes import Json
from vk_provider.podmodel.labels import Requirement, is_int64

MAX_REQUIREMENTS = 10_000
"""Of one pod on its Node: each is some microseconds of the event loop, and an object may hold 100,000."""
NO_EXECUTE = "NoExecute"
_COUNTS: Mapping[str, Callable[[int], bool]] = {
    "In": lambda count: count > 0,
    "NotIn": lambda count: count > 0,
    "Exists": lambda count: count == 0,
    "DoesNotExist": lambda count: count == 0,
    "Gt": lambda count: count == 1,
    "Lt": lambda count: count == 1,
}
"""How many values an operator may have (labels.NewRequirement)."""

LeftOut = Callable[[str], bool]
"""Whether a requirement on this label is somebody else's to check."""


def matches_node(pod: Json, node: Json, is_left_out: LeftOut) -> bool:
    """Whether the Node has what the pod requires of its labels and name (RequiredNodeAffinity.Match).

    A requirement on a label that is left out counts as met. A pod with more than MAX_REQUIREMENTS matches no Node.
    """
    labels = node["metadata"].get("labels") or {}
    for key, value in (pod["spec"].get("nodeSelector") or {}).items():
        if labels.get(key) != value and not is_left_out(key):
            return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    terms = required.get("nodeSelectorTerms") or []
    if next(islice(_requirements(terms), MAX_REQUIREMENTS, None), None) is not None:
        return False
    return any(_matches_term(term, node, labels, is_left_out) for term in terms)


def _requirements(terms: list[Json]) -> Iterator[Json]:
    for term in terms:
        yield from term.get("matchExpressions") or ()
        yield from term.get("matchFields") or ()


def _matches_term(term: Json, node: Json, labels: Mapping[str, str], is_left_out: LeftOut) -> bool:
    """An empty term matches nothing, and so does one with a requirement that cannot be read."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    name = node["metadata"].get("name") or ""
    return all(_matches_label(each, labels, is_left_out) for each in expressions) and all(
        _matches_field(each, name) for each in fields
    )


def _matches_label(expression: Json, labels: Mapping[str, str], is_left_out: LeftOut) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    may_have = _COUNTS.get(operator)
    if may_have is None or not may_have(len(values)):
        return False
    if operator in ("Gt", "Lt") and not is_int64(values[0]):
        return False
    return is_left_out(key) or Requirement(key, operator, values).matches(labels)


def _matches_field(expression: Json, name: str) -> bool:
    """The one field of a Node is its name; any other one is empty."""
    values = expression.get("values") or []
    if expression["operator"] not in ("In", "NotIn") or len(values) != 1:
        return False
    if not name:
        return True
    held = name if expression["key"] == "metadata.name" else ""
    return (held == values[0]) is (expression["operator"] == "In")


def tolerates_node(pod: Json, node: Json) -> bool:
    """Whether the pod tolerates every NoExecute taint of the Node (FindMatchingUntoleratedTaint, without the
    comparison operators, which are alpha and off)."""
    taints = [each for each in (node.get("spec") or {}).get("taints") or () if each.get("effect") == NO_EXECUTE]
    if not taints:
        return True
    any_value, equal = set(), set()
    for each in pod["spec"].get("tolerations") or ():
        if each.get("effect") not in (None, "", NO_EXECUTE):
            continue
        key, operator = each.get("key") or "", each.get("operator") or "Equal"
        if operator == "Exists":
            any_value.add(key)
        elif operator == "Equal":
            equal.add((key, each.get("value") or ""))
    return all(_is_tolerated(taint, any_value, equal) for taint in taints)


def _is_tolerated(taint: Json, any_value: set[str], equal: set[tuple[str, str]]) -> bool:
    """Tolerations by their key, "" for any: of every value, and of one."""
    key, value = taint["key"], taint.get("value") or ""
    return key in any_value or "" in any_value or (key, value) in equal or ("", value) in equal
