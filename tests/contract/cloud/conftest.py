"""One suite for every backend: what cloud.base.Cloud promises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.local_cloud.conftest import config, dual_stack, take_down
from tests.moto.fixtures import moto, moto_server
from tests.moto.plan import Plan
from tests.moto.server import MotoServer
from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.base import Cloud
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.simulated.cloud import SimulatedCloud
from vk_provider.cloud.simulated.config import SimulationConfig

__all__ = ["config", "dual_stack", "moto", "moto_server"]

OWNER = "contract-test"


@pytest.fixture(params=["simulated", "aws", pytest.param("local", marks=pytest.mark.real)])
async def cloud(request: pytest.FixtureRequest) -> AsyncIterator[Cloud]:
    if request.param == "simulated":
        simulated = SimulatedCloud(SimulationConfig(max_instances=10, page_size=2), OWNER)
        await simulated.start()
        yield simulated
        await simulated.close()
        return
    if request.param == "aws":
        async for aws in _on_moto(request.getfixturevalue("moto")):
            yield aws
        return
    settings: LocalCloudConfig = request.getfixturevalue("config")
    local = LocalCloud(LocalCloudConfig(**{**_fields(settings), "max_instances": 10}), OWNER)
    await local.start()
    try:
        yield local
    finally:
        await local.close()
        await take_down(settings)


async def _on_moto(moto: MotoServer) -> AsyncIterator[Cloud]:
    """The account's limit is the same as that of the other clouds."""
    aws = AwsCloud(moto.settings(moto.make_account()), OWNER)
    moto.plan(Plan(max_instances=10))
    await aws.start()
    try:
        yield aws
    finally:
        await aws.close()


def _fields(settings: LocalCloudConfig) -> dict[str, object]:
    return {name: getattr(settings, name) for name in LocalCloudConfig.__dataclass_fields__}


@pytest.fixture(params=["simulated", pytest.param("local", marks=pytest.mark.real)])
async def dual_stack_cloud(request: pytest.FixtureRequest) -> AsyncIterator[Cloud]:
    """A cloud whose instances have IPv6 addresses, too."""
    if request.param == "simulated":
        yield SimulatedCloud(SimulationConfig(ipv6=True), OWNER)
        return
    dual_stack: LocalCloudConfig = request.getfixturevalue("dual_stack")
    local = LocalCloud(dual_stack, OWNER)
    await local.start()
    try:
        yield local
    finally:
        await local.close()
        await take_down(dual_stack)
