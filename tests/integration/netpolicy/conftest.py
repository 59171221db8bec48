"""A bed, one for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.serviceproxy.bed import Bed, remove_abandoned


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    remove_abandoned()
    with Bed() as made:
        yield made
