"""`make test` runs every test file, each in one stream."""

from __future__ import annotations

from pathlib import Path

from tests import suite

PROJECT = Path(suite.__file__).parents[1]


def test_every_test_file_is_in_one_stream() -> None:
    streams = (suite.PURE, suite.LAST, suite.FIRST, suite.BY_HAND)
    for path in sorted(PROJECT.glob("tests/**/test_*.py")):
        name = path.relative_to(PROJECT).as_posix()
        within = [prefix for stream in streams for prefix in stream if name == prefix or name.startswith(f"{prefix}/")]
        named = name in {suite.DOOR, suite.METRICS_SERVER}  # left out of the directory that they are in
        assert len(within) == 1 + named, f"{name}: in {within or 'no stream of tests/suite.py'}"
