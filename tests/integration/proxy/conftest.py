"""One bed for a module, and a keeper without any table for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.proxy.kept import Compiled, Kept
from tests.integration.serviceproxy.bed import Bed, remove_abandoned


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    remove_abandoned()
    with Bed() as made:
        yield made


@pytest.fixture
def kept(bed: Bed, tmp_path: Path) -> Iterator[Kept]:
    bed.nft("flush ruleset\n")
    with Kept(bed, tmp_path / "tables") as made:
        yield made


@pytest.fixture
def compiled() -> Compiled:
    return Compiled()
