"""The phase in which a provider leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.errors import CloudError
from vk_provider.leader import end_surplus


async def test_second_instances_that_cannot_be_terminated_are_left_to_the_sweep(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Cloud:
        async def terminate(self, instance_ids: Sequence[str]) -> list[CloudError | None]:
            raise CloudError("throttled")

    cloud: Any = Cloud()
    await end_surplus(cloud, [])
    assert not caplog.text
    surplus = [Instance("i-1", InstanceState.RUNNING, "t", "z", "on-demand", "amd64", "", "", 0.0)]
    await end_surplus(cloud, surplus)
    assert "surplus instances are left to the orphan sweep: throttled" in caplog.text
