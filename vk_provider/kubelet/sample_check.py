"""Whether a pushed sample can be shown as it is. Pure.

Whoever owns the pod may own its instance and the agent on it: a broken sample must not break the scrape of the whole
Node, and a sample speaks for its own pod only.
"""

from __future__ import annotations

from typing import Any

from vk_provider.jsontypes import Json
from vk_provider.wire.session import StatsMessage

_PARTS = ("cpu", "memory", "network", "fs", "rlimit", "swap")
_FIGURES = ("usageCoreNanoSeconds", "workingSetBytes", "swapUsageBytes", "swapAvailableBytes")


def check_sample(sample: StatsMessage, metadata: Json) -> StatsMessage | None:
    """The sample with the reference of the pod that it came from; None when it is malformed. What it has for
    /metrics/cadvisor is long: that is checked by `is_cadvisor` when it is rendered."""
    if not _is_sound(sample):
        return None
    reference = {key: metadata[key] for key in ("name", "namespace", "uid") if key in metadata}
    return {**sample, "podUID": str(metadata.get("uid", "")), "pod": {**sample["pod"], "podRef": reference}}


def _is_sound(sample: Any) -> bool:
    return (
        isinstance(sample.get("timestamp"), str)
        and _has_parts(sample.get("pod"))
        and _has_parts(sample.get("node"))
        and all(
            _has_parts(container) and isinstance(container.get("name"), str)
            for container in _items(sample["pod"], "containers")
        )
        and isinstance(sample.get("cadvisor", []), list)
        and all(_is_probe(probe) for probe in _items(sample, "probes"))
    )


def _items(document: Json, name: str) -> list[Any]:
    """The list of that name; one that is no list is taken for a bad element."""
    found = document.get(name)
    if found is None:
        return []
    return found if isinstance(found, list) else [None]


def _has_parts(document: Any) -> bool:
    if not isinstance(document, dict) or not _is_text(document.get("startTime")):
        return False
    return all(_is_part(document[name]) for name in _PARTS if document.get(name) is not None)


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or not _is_text(part.get("time")):
        return False
    return all(_is_number(part[name]) for name in _FIGURES if part.get(name) is not None)


def is_cadvisor(container: Any) -> bool:
    """Whether an element of a sample's `cadvisor` can be rendered."""
    if not isinstance(container, dict):
        return False
    names = all(_is_text(container.get(name)) for name in ("container", "id", "image", "name"))
    return names and all(_is_metric(metric) for metric in _items(container, "samples"))


def _is_metric(metric: Any) -> bool:
    if not isinstance(metric, list) or len(metric) != 3:
        return False
    name, labels, value = metric
    if not isinstance(name, str) or not isinstance(labels, dict) or not _is_number(value):
        return False
    return all(label.isidentifier() and label.isascii() and isinstance(text, str) for label, text in labels.items())


def _is_probe(probe: Any) -> bool:
    if not isinstance(probe, dict) or not _is_number(probe.get("count")):
        return False
    return all(isinstance(probe.get(name), str) for name in ("container", "probeType", "result"))


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
