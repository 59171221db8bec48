"""The configured cloud: what it cannot do is said at the start."""

from __future__ import annotations

import pytest

from vk_provider.clouds import check_cloud
from vk_provider.errors import BadStartError
from vk_provider.settings import CloudSettings, NodeSettings, Settings

SHARING = (NodeSettings("n1"), NodeSettings("n2", port=1, shared_host_paths=("/tmp/x",)))


def test_a_cloud_whose_instances_share_nothing_refuses_shared_host_paths() -> None:
    check_cloud(Settings(SHARING, cloud=CloudSettings(backend="local")))
    with pytest.raises(BadStartError, match="shared_host_paths of node n2: instances of the simulated cloud cannot"):
        check_cloud(Settings(SHARING, cloud=CloudSettings(backend="simulated")))
    check_cloud(Settings((NodeSettings("n1"),), cloud=CloudSettings(backend="simulated")))
