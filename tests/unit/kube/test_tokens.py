"""When a token is due, and what a pod's record does with that."""

from vk_provider.kube.services import trim_service
from vk_provider.kube.tokens import compute_refresh_at


def test_a_token_is_renewed_after_four_fifths_of_its_life() -> None:
    assert compute_refresh_at(1000, 1000 + 3600, 0) == 1000 + 2880


def test_a_long_token_is_renewed_after_a_day() -> None:
    assert compute_refresh_at(0, 30 * 86400, 10) == 86400 - 10


def test_a_token_is_never_due_before_it_was_issued() -> None:
    assert compute_refresh_at(1000, 1000, 10) == 1000


def test_a_service_is_cut_down_to_what_an_environment_can_tell() -> None:
    service = {
        "metadata": {"name": "s", "namespace": "n", "uid": "u", "resourceVersion": "1", "managedFields": [1]},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80, "targetPort": 8080}], "selector": {"a": "b"}},
    }
    assert trim_service(service)["entry"] == {
        "name": "s", "namespace": "n", "clusterIP": "10.0.0.1", "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
    }  # fmt: skip
