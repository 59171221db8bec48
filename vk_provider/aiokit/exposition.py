"""Prometheus' text format (0.0.4), for what is rendered from documents: what agents have measured, and an agent's own.

Counters and histograms of the provider are prometheus-client's. It is not used here, since it would give the counter
container_memory_failcnt, which is cAdvisor's, another name, takes two and a half times as long for each of the tens of
thousands of samples of a Node, and would cost each agent memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def format_value(value: float) -> str:
    """Write a sample value; whole numbers without a fraction so that text parsers keep every digit."""
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 1e18 else repr(value)


def escape_label(value: str) -> str:
    """Escape a label value."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value


def format_labels(labels: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """`{a="b",c="d"}` or "" without labels."""
    pairs = labels.items() if isinstance(labels, Mapping) else labels
    text = ",".join(f'{name}="{escape_label(value)}"' for name, value in pairs)
    return "{" + text + "}" if text else ""


def format_head(name: str, kind: str, help_text: str) -> str:
    """The two lines before the samples of a family. help_text has no backslash and no line break."""
    return f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"
