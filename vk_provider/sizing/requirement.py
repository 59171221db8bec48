"""A pod's requirements on its machine: nodeSelector, required node affinity and annotations.

Only labels that distinguish offerings are used; the others are about the Node, and the scheduler has checked them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from vk_provider.cloud.base import Offering
from vk_provider.cloud.codes import family_of
from vk_provider.cloud.launchoptions import OPTIONS
from vk_provider.jsontypes import Json
from vk_provider.podmodel.glob import matches_glob
from vk_provider.podmodel.quantity import ceil_int

ARCHITECTURE = "kubernetes.io/arch"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ZONE = "topology.kubernetes.io/zone"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
INSTANCE_FAMILY = "karpenter.k8s.aws/instance-family"
GPU_NAME = "karpenter.k8s.aws/instance-gpu-name"
LABELS = (ARCHITECTURE, INSTANCE_TYPE, INSTANCE_FAMILY, ZONE, CAPACITY_TYPE, GPU_NAME)
"""Labels of an offering, in the order in which they are checked."""

ANNOTATION_PREFIX = "vk-provider/"
ANNOTATIONS = {
    f"{ANNOTATION_PREFIX}architecture": ARCHITECTURE,
    f"{ANNOTATION_PREFIX}instance-type": INSTANCE_TYPE,
    f"{ANNOTATION_PREFIX}instance-family": INSTANCE_FAMILY,
    f"{ANNOTATION_PREFIX}zone": ZONE,
    f"{ANNOTATION_PREFIX}capacity-type": CAPACITY_TYPE,
    f"{ANNOTATION_PREFIX}gpu-name": GPU_NAME,
}
"""Annotation -> label, for values that the Node's label would make the scheduler refuse; comma separated, with `*`
and `?` for any characters. With `spot, on-demand` the cheaper one is launched, and the other one where it is short.
A RuntimeClass may have the same annotations, for all pods that name it."""

GPU_MEMORY_ANNOTATION = f"{ANNOTATION_PREFIX}gpu-memory"
"""The least memory of each GPU, a quantity such as 24Gi."""
LOCAL_DISK_ANNOTATION = f"{ANNOTATION_PREFIX}local-disk"
"""The least size of the disks within the machine, all together, a quantity such as 100Gi."""
ROOT_VOLUME_ANNOTATION = f"{ANNOTATION_PREFIX}root-volume-size"
"""The least size of the root volume, a quantity; disks of the instance type are used instead of it only where they hold
as much. It has room for images and for what the pod's requests and limits of ephemeral storage name, in any case."""

_QUANTITIES = (GPU_MEMORY_ANNOTATION, LOCAL_DISK_ANNOTATION, ROOT_VOLUME_ANNOTATION)
_NUMBERS = ("root-volume-throughput", "root-volume-iops")
_OPTION_VALUE = re.compile(r"[A-Za-z0-9+=,.@:/_-]{1,512}")
_QUANTITY = re.compile(r"[0-9]{1,15}(\.[0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)?")
"""Without an exponent: no API has limited it."""
_MAX_ALTERNATIVES = 100
_MAX_PATTERN, _MAX_WILDCARDS = 64, 8
"""Of one alternative: a label value has 63 characters at most."""
_MAX_VALUES = 2_000
"""Of all requirements of a pod on offerings together."""
_NO_ANNOTATIONS: Mapping[str, str] = {}

_ALIASES = {
    "beta.kubernetes.io/arch": ARCHITECTURE,
    "beta.kubernetes.io/instance-type": INSTANCE_TYPE,
    "failure-domain.beta.kubernetes.io/zone": ZONE,
}


class RequirementError(ValueError):
    """An annotation says what cannot be understood, or may not be said; the text names it."""


@dataclass(frozen=True, slots=True)
class Given:
    """What is known of a pod beside its object.

    architectures: those that all its images have; empty when that is not known
    annotations:   of its RuntimeClass, those that are heeded
    """

    architectures: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()


NOTHING_GIVEN = Given()


@dataclass(frozen=True, slots=True)
class Expression:
    """One node selector requirement (core/v1); Gt and Lt compare integers, which no offering label is.

    has_patterns: its values, which are few then, may have `*` and `?` for any characters
    """

    label: str
    operator: str
    values: tuple[str, ...]
    has_patterns: bool = False

    def matches(self, value: str) -> bool:
        match self.operator:
            case "In":
                return value in self.values or (
                    self.has_patterns and any(matches_glob(value, each) for each in self.values if _is_pattern(each))
                )
            case "NotIn":
                return value not in self.values
            case "Exists":
                return bool(value)
            case "DoesNotExist":
                return not value
            case _:
                return False

    def __str__(self) -> str:
        return f"{self.label} {self.operator} {', '.join(self.values)}".strip()


@dataclass(frozen=True, slots=True)
class Requirements:
    """always: all must match; any_of: alternatives (nodeSelectorTerms), one of which must match; () = none.

    gpu_memory_bytes, local_disk_bytes, root_disk_bytes: at least
    options: of the launch, sorted by name
    """

    always: tuple[Expression, ...] = ()
    any_of: tuple[tuple[Expression, ...], ...] = ()
    gpu_memory_bytes: int = 0
    local_disk_bytes: int = 0
    root_disk_bytes: int = 0
    options: tuple[tuple[str, str], ...] = ()

    def names(self, label: str) -> bool:
        """Whether the pod has a requirement on a label."""
        return any(e.label == label for e in (*self.always, *(e for term in self.any_of for e in term)))

    def option(self, name: str) -> str:
        """ "" without it."""
        return dict(self.options).get(name, "")


def offering_label(offering: Offering, label: str) -> str:
    """The value an offering has for one of LABELS, "" for none."""
    match label:
        case "kubernetes.io/arch":
            return offering.architecture
        case "node.kubernetes.io/instance-type":
            return offering.instance_type
        case "karpenter.k8s.aws/instance-family":
            return family_of(offering)
        case "topology.kubernetes.io/zone":
            return offering.zone
        case "karpenter.k8s.aws/instance-gpu-name":
            return offering.traits.gpu_name.lower()
        case _:
            return offering.capacity_type


def find_requirements(
    pod: Json, node_labels: Collection[str] = (), given: Given = NOTHING_GIVEN, pod_options: Collection[str] = ()
) -> Requirements:
    """Read a pod's requirements. Raises RequirementError.

    node_labels: labels on which only the pod's annotations are requirements
    pod_options: those of OPTIONS that pods may have; a RuntimeClass may have any, and where both have one, its counts
    """
    spec = pod.get("spec") or {}
    always = [
        _expression(label, "In", (str(value),))
        for key, value in (spec.get("nodeSelector") or {}).items()
        if (label := _label_of(key, node_labels)) is not None
    ]
    own: Mapping[str, str] = (pod.get("metadata") or {}).get("annotations") or _NO_ANNOTATIONS
    of_class = dict(given.annotations) if given.annotations else _NO_ANNOTATIONS
    sources = [source for source in (own, of_class) if source]
    always += [each for source in sources for each in _read_labels(source)]
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    terms = [_term(term, node_labels) for term in required.get("nodeSelectorTerms") or []]
    if sum(len(each.values) for term in (always, *terms) for each in term) > _MAX_VALUES:
        raise RequirementError(f"more than {_MAX_VALUES} values are required of labels of instances")
    any_of = tuple(terms) if terms and all(terms) else ()  # a term without offering labels allows every offering
    if not sources:
        return Requirements(tuple(always), any_of)
    gpu_memory, local_disk, root_disk = (
        max(_read_quantity(source, name) for source in sources) for name in _QUANTITIES
    )
    options = _read_options(own, of_class, pod_options)
    return Requirements(tuple(always), any_of, gpu_memory, local_disk, root_disk, options)


def names_architecture(pod: Json, given: Given = NOTHING_GIVEN) -> bool:
    """Whether the pod or its RuntimeClass says on which architecture it runs, or says what cannot be understood."""
    try:
        return find_requirements(pod, (), given, OPTIONS).names(ARCHITECTURE)
    except RequirementError:
        return True


def read_class_annotations(runtime_class: Json | None) -> tuple[tuple[str, str], ...]:
    """Given.annotations of a RuntimeClass; of none where there is none."""
    annotations = ((runtime_class or {}).get("metadata") or {}).get("annotations") or {}
    return tuple(sorted((key, str(value)) for key, value in annotations.items() if is_heeded(key)))


def is_heeded(annotation: str) -> bool:
    """Whether an annotation says anything about the instance."""
    option = annotation.removeprefix(ANNOTATION_PREFIX)
    return annotation in ANNOTATIONS or annotation in _QUANTITIES or (option != annotation and option in OPTIONS)


def _read_labels(annotations: Mapping[str, str]) -> list[Expression]:
    found = []
    for annotation, label in ANNOTATIONS.items():
        values = tuple(part.strip() for part in annotations.get(annotation, "").split(",") if part.strip())
        if len(values) > _MAX_ALTERNATIVES:
            raise RequirementError(f"annotation {annotation} has more than {_MAX_ALTERNATIVES} alternatives")
        if any(len(value) > _MAX_PATTERN or value.count("*") > _MAX_WILDCARDS for value in values):
            limits = f"{_MAX_PATTERN} characters or {_MAX_WILDCARDS} times *"
            raise RequirementError(f"annotation {annotation} has an alternative of more than {limits}")
        if values:
            found.append(_expression(label, "In", values, has_patterns=True))
    return found


def _read_quantity(annotations: Mapping[str, str], name: str) -> int:
    text = annotations.get(name)
    if text is None:
        return 0
    if not _QUANTITY.fullmatch(text):
        raise RequirementError(f"annotation {name} is not a quantity such as 24Gi: {text[:64]!r}")
    return ceil_int(text)


def _read_options(
    own: Mapping[str, str], of_class: Mapping[str, str], pod_options: Collection[str]
) -> tuple[tuple[str, str], ...]:
    found = {}
    for name in OPTIONS:
        annotation = f"{ANNOTATION_PREFIX}{name}"
        if annotation in own and name not in pod_options:
            raise RequirementError(
                f"annotation {annotation} is not allowed on pods here (pods.launch_options); a RuntimeClass may have it"
            )
        value = of_class.get(annotation, own.get(annotation))
        if value is None:
            continue
        if not _OPTION_VALUE.fullmatch(value) or (name in _NUMBERS and not (value.isdecimal() and len(value) < 8)):
            kind = "a number" if name in _NUMBERS else "a value for it"
            raise RequirementError(f"annotation {annotation} is not {kind}: {value[:64]!r}")
        found[name] = value
    return tuple(sorted(found.items()))


def _term(term: Json, node_labels: Collection[str]) -> tuple[Expression, ...]:
    return tuple(
        _expression(label, str(e.get("operator")), tuple(str(value) for value in e.get("values") or ()))
        for e in term.get("matchExpressions") or []
        if (label := _label_of(str(e.get("key")), node_labels)) is not None
    )


def _expression(label: str, operator: str, values: tuple[str, ...], *, has_patterns: bool = False) -> Expression:
    if label == GPU_NAME:
        values = tuple(value.lower() for value in values)
    return Expression(label, operator, values, has_patterns)


def _is_pattern(value: str) -> bool:
    return "*" in value or "?" in value or "[" in value


def _label_of(key: str, node_labels: Collection[str]) -> str | None:
    label = _ALIASES.get(key, key)
    return label if label in LABELS and label not in node_labels else None
