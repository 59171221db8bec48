"""When statuses queue up at the API server."""

from vk_provider.kube.load import BUSY_HOLD_S, BUSY_OPEN, STATUS_LABEL, StatusLoad


def make() -> tuple[StatusLoad, list[float]]:
    now = [7.0]
    return StatusLoad(lambda: now[0]), now


def test_a_few_status_patches_at_once_are_no_load() -> None:
    load, _ = make()
    for _ in range(100):
        for _ in range(BUSY_OPEN - 1):
            load.begin(STATUS_LABEL)
        for _ in range(BUSY_OPEN - 1):
            load.end(STATUS_LABEL)
    assert not load.is_busy


def test_many_at_once_are_and_for_a_while_after_the_last_such_moment() -> None:
    load, now = make()
    for _ in range(BUSY_OPEN):
        load.begin(STATUS_LABEL)
    now[0] += 60
    assert load.is_busy, "they are still open: the API server is slow"
    load.end(STATUS_LABEL)
    now[0] += BUSY_HOLD_S * 0.9
    assert load.is_busy
    now[0] += BUSY_HOLD_S * 0.2
    assert not load.is_busy


def test_other_requests_are_no_load() -> None:
    load, _ = make()
    for label in ("events", "pods", "leases.coordination.k8s.io", "nodes/status") * BUSY_OPEN:
        load.begin(label)
    assert not load.is_busy
