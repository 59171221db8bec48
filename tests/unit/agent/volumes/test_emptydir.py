import pytest

from tests.unit.podmodel.builders import CONTEXT, make_pod
from vk_provider.agent.volumes.emptydir import compute_memory_size


def limited(memory):
    return {"name": "c", "resources": {"limits": {"memory": memory}}}


@pytest.mark.parametrize(
    ("source", "containers", "size"),
    [
        ({}, [], 4 << 30),
        ({"sizeLimit": "64Mi"}, [], 64 << 20),
        ({"sizeLimit": "64Mi"}, [limited("32Mi")], 32 << 20),
        ({}, [limited("1Gi")], 1 << 30),
        ({"sizeLimit": "8Gi"}, [], 4 << 30),
        ({"sizeLimit": "0"}, [], 4 << 30),
    ],
)
def test_a_memory_volume_is_as_small_as_the_tightest_bound(source, containers, size):
    assert compute_memory_size(source, make_pod(*containers), CONTEXT) == size
