"""The whole page."""

from __future__ import annotations

from pathlib import Path

from tests.reference import conditions, events, metrics, names, settings

PATH = Path(__file__).parents[2] / "REFERENCE.md"
_HEAD = """\
# Reference

Made from the code by `make reference`; a test fails while it is not up to date. [README.md](README.md) says how to use
them, [ARCHITECTURE.md](ARCHITECTURE.md) how they come about.

[Settings](#settings) · [Events](#events) · [Conditions](#conditions) ·
[Annotations, labels, taints and tags](#annotations-labels-taints-and-tags) · [Metrics](#metrics)
"""


def build_page() -> str:
    sections = (settings.build(), events.build(), conditions.build(), names.build(), metrics.build())
    return "\n".join((_HEAD, *sections))
