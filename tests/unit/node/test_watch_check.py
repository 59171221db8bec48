"""A Node is honest about its watch; an outage of the API server alone is no reason not to be ready."""

from __future__ import annotations

import pytest

from vk_provider.errors import KubeApiError
from vk_provider.node.watch_check import WATCH_LIMIT_S, describe_watch

FORBIDDEN = KubeApiError(403, "Forbidden", "pods is forbidden")
LONG = WATCH_LIMIT_S + 1


@pytest.mark.parametrize(
    ("what", "failing_since", "answering_since", "now", "ready"),
    [
        ("a watch that works", 0.0, 100.0, 10_000.0, True),
        ("a hiccup", 1000.0, 100.0, 1000.0 + WATCH_LIMIT_S - 1, True),
        ("a watch that is refused while the Lease is renewed", 1000.0, 100.0, 1000.0 + LONG, False),
        ("an outage: the Lease is not renewed either", 1000.0, 0.0, 1000.0 + 10 * LONG, True),
        ("the first minute after an outage", 1000.0, 5000.0, 5000.0 + WATCH_LIMIT_S - 1, True),
        ("a watch that does not come back after an outage", 1000.0, 5000.0, 5000.0 + LONG, False),
    ],
)
def test_when_a_watch_makes_its_node_not_ready(
    what: str, failing_since: float, answering_since: float, now: float, ready: bool
) -> None:
    problem = describe_watch(failing_since, FORBIDDEN, answering_since, now)
    assert (problem == "") is ready, what
    assert ready or problem == "the pods of the node cannot be followed: pods is forbidden"
