"""When pods' statuses and their ends queue up at the API server."""

import pytest

from vk_provider.kube.load import BUSY_HOLD_S, BUSY_OPEN, PodLoad
from vk_provider.kube.paths import RequestInfo, parse_request

STATUS = parse_request("PATCH", "/api/v1/namespaces/ns/pods/p/status")
END = parse_request("DELETE", "/api/v1/namespaces/ns/pods/p")
OTHERS = (
    parse_request("POST", "/api/v1/namespaces/ns/events"),
    parse_request("GET", "/api/v1/namespaces/ns/pods/p"),
    parse_request("GET", "/api/v1/pods"),
    parse_request("PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n"),
    parse_request("PATCH", "/api/v1/nodes/n/status"),
    parse_request("DELETE", "/apis/metrics.k8s.io/v1/namespaces/ns/pods/p"),
)


def make() -> tuple[PodLoad, list[float]]:
    now = [7.0]
    return PodLoad(lambda: now[0]), now


@pytest.mark.parametrize("request_info", [STATUS, END], ids=["status", "end"])
def test_a_few_at_once_are_no_load(request_info: RequestInfo) -> None:
    load, _ = make()
    for _ in range(100):
        for _ in range(BUSY_OPEN - 1):
            load.begin(request_info)
        for _ in range(BUSY_OPEN - 1):
            load.end(request_info)
    assert not load.is_busy


def test_many_at_once_are_and_for_a_while_after_the_last_such_moment() -> None:
    load, now = make()
    for number in range(BUSY_OPEN):
        load.begin(STATUS if number % 2 else END)
    now[0] += 60
    assert load.is_busy, "they are still open: the API server is slow"
    load.end(END)
    now[0] += BUSY_HOLD_S * 0.9
    assert load.is_busy
    now[0] += BUSY_HOLD_S * 0.2
    assert not load.is_busy


def test_other_requests_are_no_load() -> None:
    load, _ = make()
    for other in OTHERS * BUSY_OPEN:
        load.begin(other)
    assert not load.is_busy
