"""A bed with our tables in it, one for each module: tests use addresses of their own in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.serviceproxy.bed import Bed, remove_abandoned


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    remove_abandoned()
    with Bed() as made:
        yield made
