"""CONTRIBUTING.md leads to files and commands that there are."""

from __future__ import annotations

import re

from tests.reference.page import PATH

ROOT = PATH.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_each_path_that_it_names_exists() -> None:
    paths = set(re.findall(r"\b((?:vk_provider|tests)(?:/[\w.-]+)+)", TEXT))
    assert len(paths) > 30
    assert [path for path in sorted(paths) if not (ROOT / path.rstrip(".")).exists()] == []


def test_each_command_that_it_names_exists() -> None:
    targets = set(re.findall(r"`make ([a-z-]+)", TEXT))
    known = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"unit", "lint", "reference"} <= targets <= known
