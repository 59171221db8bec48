"""Which containerd a cluster's instances run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cluster import build, containerd2


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build, "built_path", lambda name: tmp_path / f"{name}-0123" / name)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path


def test_the_one_that_was_built_is_used_once_all_of_it_is_there(cache: Path) -> None:
    for name in containerd2.PROGRAMS:
        assert containerd2.default() == containerd2.DISTRIBUTION
        (cache / f"{name}-0123").mkdir()
        (cache / f"{name}-0123" / name).touch()
    assert containerd2.default() == containerd2.BUILT


def test_what_was_built_comes_first_on_the_providers_path_and_nothing_else_changes(cache: Path) -> None:
    assert containerd2.search_path(containerd2.DISTRIBUTION) == "/usr/bin:/bin"
    first = [f"{cache}/{name}-0123" for name in containerd2.PROGRAMS]
    assert containerd2.search_path(containerd2.BUILT).split(os.pathsep) == [*first, "/usr/bin", "/bin"]
