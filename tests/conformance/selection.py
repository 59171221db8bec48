"""Which specs to run: label filter, regular expressions, or a list of names. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

NODE_CONFORMANCE = "NodeConformance && Conformance && !Serial && !Disruptive && !Slow"


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for. With `names`, only those specs; the rest narrows in ginkgo's own terms."""

    label_filter: str = NODE_CONFORMANCE
    focus: str = ""
    skip: str = ""
    names: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether this is the set that the published results are about."""
        return self == Selection()

    def describe(self) -> str:
        """One line for people."""
        parts = [f"{len(self.names)} named specs"] if self.names else [f"labels `{self.label_filter}`"]
        parts += [f"focus `{self.focus}`"] if self.focus else []
        parts += [f"skip `{self.skip}`"] if self.skip else []
        return ", ".join(parts)


def parse_name_list(text: str) -> tuple[str, ...]:
    """Full spec names, one a line, in a file with `#` comment lines and blank lines."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def spec_name(spec: dict[str, Any]) -> str:
    """The full text of a spec in ginkgo's JSON report: its containers' texts and its own, joined by spaces."""
    return " ".join(text for text in [*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]] if text)


def selected_names(report: list[dict[str, Any]]) -> list[str]:
    """The names of the specs that a dry run would have run, from its JSON report, in its order."""
    specs = [spec for suite in report for spec in suite["SpecReports"] or []]
    return [spec_name(spec) for spec in specs if spec["LeafNodeType"] == "It" and spec["State"] == "passed"]


def unknown_names(wanted: Iterable[str], existing: Iterable[str]) -> list[str]:
    """Those of `wanted` that no spec is called."""
    known = set(existing)
    return [name for name in wanted if name not in known]


def focus_of(names: Iterable[str]) -> str:
    """A regular expression that matches exactly the specs called `names`.

    ginkgo matches it against the suite's description, a space, and the name; every name begins with its [sig].
    """
    return f"(?:{'|'.join(escape(name) for name in sorted(names))})$"


def escape(text: str) -> str:
    """`text` as a literal in Go's regular expressions (RE2 refuses escapes of letters, re.escape makes none)."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)
