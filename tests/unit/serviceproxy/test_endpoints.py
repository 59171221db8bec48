"""Which endpoints count: conditions, hints, several slices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service_objects import make_endpoint, make_service, make_slice
from tests.unit.serviceproxy.reading import Reading, build_index, read
from vk_provider.jsontypes import Json


def chosen(*slices: Json, zone: str = "z1", **spec: Any) -> Reading:
    return read(build_index([make_service("a", "10.96.0.2", **spec)], slices).table(zone), "10.96.0.2")


def ends(found: Reading) -> list[int]:
    return [int(target.split(" ")[0].rpartition(".")[2]) for target in found.endpoints]


def pod(number: int, node: str = "n2", **more: Any) -> Json:
    return make_endpoint(f"10.1.0.{number}", node, **more)


def leaving(number: int, node: str = "n2", serving: bool = True) -> Json:
    return pod(number, node, ready=False, serving=serving, terminating=True)


def test_endpoints_that_are_not_ready_get_nothing() -> None:
    assert ends(chosen(make_slice("a", pod(1), pod(2, ready=False), leaving(3)))) == [1]


def test_terminating_endpoints_that_still_answer_are_used_when_no_other_is_ready() -> None:
    assert ends(chosen(make_slice("a", pod(1, ready=False), leaving(2), leaving(3, serving=False)))) == [2]


def test_the_last_resort_is_looked_for_on_the_node_alone_under_the_policy_local() -> None:
    found = chosen(make_slice("a", pod(1), leaving(2, "n1")), internalTrafficPolicy="Local")
    assert (found.verdict, ends(found)) == ("local", [2])


def test_not_ready_addresses_that_are_published_are_ready_in_their_slice_and_used() -> None:
    published = pod(1, ready=True, serving=False, terminating=True)
    assert ends(chosen(make_slice("a", published))) == [1]


def test_conditions_that_are_not_set_mean_ready() -> None:
    assert ends(
        chosen(make_slice("a", {"addresses": ["10.1.0.1"]}, {"addresses": ["10.1.0.2"], "conditions": {}}))
    ) == [1, 2]


def test_hints_for_our_zone_are_followed_when_every_ready_endpoint_has_some() -> None:
    near, far = pod(1, zones=["z1"]), pod(2, zones=["z2"])
    assert ends(chosen(make_slice("a", near, far))) == [1]
    assert ends(chosen(make_slice("a", near, far, pod(3)))) == [1, 2, 3]
    assert ends(chosen(make_slice("a", near, far, pod(3, ready=False)))) == [1]


def test_hints_are_ignored_where_none_is_for_our_zone() -> None:
    assert ends(chosen(make_slice("a", pod(1, zones=["z1"]), pod(2, zones=["z2"])), zone="z9")) == [1, 2]
    assert ends(chosen(make_slice("a", pod(1, zones=["z1"]), pod(2, zones=["z2"])), zone="")) == [1, 2]


def test_hints_for_the_node_go_before_those_for_the_zone() -> None:
    ours, near = pod(1, zones=["z1"], nodes=["n1"]), pod(2, zones=["z1"], nodes=["n2"])
    assert ends(chosen(make_slice("a", ours, near))) == [1]
    assert ends(chosen(make_slice("a", near, pod(3, zones=["z2"], nodes=["n3"])))) == [2]


def test_the_policy_local_does_not_follow_hints() -> None:
    found = chosen(make_slice("a", pod(1, "n1", zones=["z2"]), pod(2, zones=["z1"])), internalTrafficPolicy="Local")
    assert ends(found) == [1]


def test_an_endpoint_in_two_slices_counts_once_and_the_living_one_wins() -> None:
    old, new = make_slice("a", leaving(1), suffix="z"), make_slice("a", pod(1), suffix="y")
    assert ends(chosen(old, new)) == ends(chosen(new, old)) == [1]
    more = make_slice("a", pod(2))
    assert ends(chosen(old, new, more)) == [1, 2]


def test_of_two_pods_with_one_address_the_one_that_does_not_terminate_speaks_even_when_it_is_not_ready() -> None:
    published = pod(1, ready=True, terminating=True)
    assert chosen(make_slice("a", published), make_slice("a", pod(1, ready=False), suffix="y")).verdict == "refused"


def test_only_the_first_address_of_an_endpoint_is_used() -> None:
    assert ends(chosen(make_slice("a", {"addresses": ["10.1.0.1", "10.1.0.2"]}))) == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"ports": [{"name": "", "protocol": "TCP"}]},
        {"ports": [{"protocol": "TCP", "port": 8080}]},
        {"ports": [{"name": "", "protocol": "TCP", "port": 0}]},
        {"ports": None},
        {"addressType": "FQDN"},
        {"addressType": "IPv6"},
        {"endpoints": [{"addresses": []}, {"addresses": ["x"]}, {}]},
        {"endpoints": None},
    ],
)
def test_a_slice_that_cannot_be_used_is_as_none(change: Json) -> None:
    assert chosen(make_slice("a", pod(1)) | change).verdict == "refused"


def test_slices_of_headless_or_unnamed_services_do_not_count() -> None:
    headless, unnamed = make_slice("a", pod(1)), make_slice("a", pod(2), suffix="y")
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    unnamed["metadata"]["labels"] = {}
    assert chosen(headless, unnamed).verdict == "refused"
