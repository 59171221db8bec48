"""A pod's requirements on its machine: nodeSelector, required node affinity and annotations.

Only labels that distinguish offerings are used; the others are about the Node, and the scheduler has checked them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vk_provider.cloud.base import Offering
from vk_provider.jsontypes import Json

ARCHITECTURE = "kubernetes.io/arch"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ZONE = "topology.kubernetes.io/zone"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
LABELS = (ARCHITECTURE, INSTANCE_TYPE, ZONE, CAPACITY_TYPE)
"""Labels of an offering, in the order in which they are checked."""

ANNOTATION_PREFIX = "vk-provider/"
ANNOTATIONS = {
    f"{ANNOTATION_PREFIX}architecture": ARCHITECTURE,
    f"{ANNOTATION_PREFIX}instance-type": INSTANCE_TYPE,
    f"{ANNOTATION_PREFIX}zone": ZONE,
    f"{ANNOTATION_PREFIX}capacity-type": CAPACITY_TYPE,
}
"""Annotation -> label, for values that the Node's label would make the scheduler refuse; comma separated."""

_ALIASES = {
    "beta.kubernetes.io/arch": ARCHITECTURE,
    "beta.kubernetes.io/instance-type": INSTANCE_TYPE,
    "failure-domain.beta.kubernetes.io/zone": ZONE,
}


@dataclass(frozen=True, slots=True)
class Expression:
    """One node selector requirement (core/v1); Gt and Lt compare integers, which no offering label is."""

    label: str
    operator: str
    values: tuple[str, ...]

    def matches(self, value: str) -> bool:
        match self.operator:
            case "In":
                return any(_matches_pattern(value, pattern) for pattern in self.values)
            case "NotIn":
                return value not in self.values
            case "Exists":
                return True
            case _:
                return False

    def __str__(self) -> str:
        return f"{self.label} {self.operator} {', '.join(self.values)}".strip()


@dataclass(frozen=True, slots=True)
class Requirements:
    """always: all must match; any_of: alternatives (nodeSelectorTerms), one of which must match; () = none."""

    always: tuple[Expression, ...] = ()
    any_of: tuple[tuple[Expression, ...], ...] = ()

    def names(self, label: str) -> bool:
        """Whether the pod has a requirement on a label."""
        return any(e.label == label for e in (*self.always, *(e for term in self.any_of for e in term)))


def offering_label(offering: Offering, label: str) -> str:
    """The value an offering has for one of LABELS."""
    match label:
        case "kubernetes.io/arch":
            return offering.architecture
        case "node.kubernetes.io/instance-type":
            return offering.instance_type
        case "topology.kubernetes.io/zone":
            return offering.zone
        case _:
            return offering.capacity_type


def find_requirements(pod: Json, node_labels: Collection[str] = ()) -> Requirements:
    """Read a pod's requirements. `node_labels`: labels on which only the pod's annotations are requirements."""
    spec = pod.get("spec") or {}
    always = [
        Expression(label, "In", (str(value),))
        for key, value in (spec.get("nodeSelector") or {}).items()
        if (label := _label_of(key, node_labels)) is not None
    ]
    annotations: Mapping[str, str] = (pod.get("metadata") or {}).get("annotations") or {}
    for annotation, label in ANNOTATIONS.items():
        values = tuple(part.strip() for part in annotations.get(annotation, "").split(",") if part.strip())
        if values:
            always.append(Expression(label, "In", values))
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    terms = [_term(term, node_labels) for term in required.get("nodeSelectorTerms") or []]
    any_of = tuple(terms) if terms and all(terms) else ()  # a term without offering labels allows every offering
    return Requirements(tuple(always), any_of)


def _term(term: Json, node_labels: Collection[str]) -> tuple[Expression, ...]:
    return tuple(
        Expression(label, str(e.get("operator")), tuple(str(value) for value in e.get("values") or ()))
        for e in term.get("matchExpressions") or []
        if (label := _label_of(str(e.get("key")), node_labels)) is not None
    )


def _label_of(key: str, node_labels: Collection[str]) -> str | None:
    label = _ALIASES.get(key, key)
    return label if label in LABELS and label not in node_labels else None


def _matches_pattern(value: str, pattern: str) -> bool:
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern
