"""Every call to a cloud ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from vk_provider.cloud.base import LaunchRequest
from vk_provider.cloud.limits import CallLimits, LimitedCloud
from vk_provider.cloud.listing import list_owned
from vk_provider.cloud.simulated.cloud import SimulatedCloud
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.errors import CloudError

AT_ONCE = CallLimits(*[0.0] * 8)


class Hanging:
    """A Cloud none of whose verbs ever answers."""

    name = "hanging"
    shares_host_paths = False
    group_limit = 1
    listing_lag_s = 0.0

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        async def hang(*_: Any) -> Any:
            await asyncio.Event().wait()

        return hang


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("launch", (None,)),
        ("list_page", ()),
        ("create_tags", (["i-1"], {})),
        ("describe", (["i-1"],)),
        ("terminate", (["i-1"],)),
        ("stop_instances", (["i-1"],)),
        ("start_instances", (["i-1"],)),
        ("describe_offerings", ()),
        ("describe_runtime", ()),
    ],
)
async def test_a_verb_that_does_not_answer_is_an_error_that_may_be_retried(verb: str, arguments: Any) -> None:
    cloud = LimitedCloud(Hanging(), AT_ONCE)
    with pytest.raises(CloudError, match="no answer within 0 s") as raised:
        await asyncio.wait_for(getattr(cloud, verb)(*arguments), 5.0)
    assert raised.value.retryable


async def test_answers_and_errors_pass_unchanged() -> None:
    simulated = SimulatedCloud(SimulationConfig(), "o")
    cloud = LimitedCloud(simulated)
    offering = (await cloud.describe_offerings())[0]
    (launched,) = (await cloud.launch(LaunchRequest("t", (offering,), {"vk-provider/owner": "o"}, "{}"))).instances
    assert await list_owned(cloud) == await cloud.describe([launched.instance_id]) == [launched]
    await cloud.create_tags([launched.instance_id], {"Name": "n"})
    assert (await list_owned(cloud))[0].tags["Name"] == "n"
    assert await cloud.terminate([launched.instance_id]) == [None]
    simulated.failures.throttled = 1
    with pytest.raises(CloudError, match="throttled"):
        await cloud.list_page()


async def test_a_time_limit_of_the_cloud_itself_is_not_taken_for_ours() -> None:
    class Impatient(Hanging):
        async def list_page(self, page: str = "") -> Any:
            raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        await LimitedCloud(Impatient()).list_page()
