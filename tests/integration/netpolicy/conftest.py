"""A bed, one for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.serviceproxy.bed import Bed, kinds, remove_abandoned
from tests.integration.serviceproxy.clients import Attempt
from tests.policy_worlds import PEERS6, SUBJECT6


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    """Its link has IPv6: a new one takes a second to see that its address is nobody else's."""
    remove_abandoned()
    with Bed() as made:
        tries = (kinds(made.connect([Attempt(PEERS6[-1], "TCP", SUBJECT6, 8080)])) for _ in range(30))
        assert {"answered"} in tries
        yield made
