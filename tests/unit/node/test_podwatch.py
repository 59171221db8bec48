"""A Node whose pods cannot be followed says so."""

from __future__ import annotations

import time
from typing import Any

from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.node.podwatch import PodWatches


class NoApi:
    """Is never asked."""


def make(told: list[tuple[str, str, Json]] | None = None) -> PodWatches:
    client: Any = NoApi()
    events = told if told is not None else []
    return PodWatches(client, ["n1", "n2"], lambda node, kind, pod: events.append((node, kind, pod)))


def test_a_provider_that_has_not_listed_the_pods_of_all_its_nodes_is_not_healthy() -> None:
    watches = make()
    assert not watches.are_synced
    watches._informers["n1"].synced.set()
    assert not watches.are_synced
    watches._informers["n2"].synced.set()
    assert watches.are_synced


def test_a_node_whose_pods_cannot_be_followed_says_so_while_the_api_server_answers() -> None:
    watches, now = make(), time.monotonic()
    informer, answering_since = watches._informers["n1"], now - 1000
    assert watches.find_problem("n1", answering_since) == "the pods of the node are not listed yet"
    informer.synced.set()
    assert watches.find_problem("n1", answering_since) == ""
    informer.failing_since, informer.error = now - 500, KubeApiError(403, "Forbidden", "pods is forbidden")
    problem = "the pods of the node cannot be followed: pods is forbidden"
    assert watches.find_problem("n1", answering_since) == problem
    assert watches.find_problem("n1", 0.0) == "", "an outage of the API server"


def test_each_event_comes_with_the_node_that_its_watch_is_of() -> None:
    told: list[tuple[str, str, Json]] = []
    watches = make(told)
    pod = {"metadata": {"uid": "u", "name": "p", "resourceVersion": "1"}, "spec": {}}
    watches._informers["n2"]._apply("ADDED", pod)
    assert told == [("n2", "ADDED", pod)]
