from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.integration.local_cloud.machine import exists
from vk_provider.cloud.base import TAG_OWNER, LaunchRequest, Offering
from vk_provider.cloud.local import cli
from vk_provider.cloud.local.cloud import LocalCloud
from vk_provider.cloud.local.config import LocalCloudConfig

OWNER = "local-cloud-test"


@pytest.fixture
def config(tmp_path_factory: pytest.TempPathFactory) -> LocalCloudConfig:
    """A cloud of this test's own: name and subnet do not meet another's."""
    base = tmp_path_factory.mktemp("cloud")
    number = os.getpid() % 200
    return LocalCloudConfig(
        name=f"t{os.getpid() % 10**7}",
        subnet=f"10.{40 + number // 16}.{(number % 16) * 16}.0/20",
        state_dir=str(base / "state"),
        cache_dir=os.path.expanduser("~/.cache/vk-provider/local-cloud-test"),
        boot_credit_s=0.0,
        launch_concurrency=4,
    )


@pytest.fixture
def dual_stack(config: LocalCloudConfig) -> LocalCloudConfig:
    """The same with IPv6 addresses of this test's own."""
    return replace(config, ipv6_subnet=f"fd00:7e57:{os.getpid() % 0xFFFF:x}::/64")


@pytest.fixture
async def cloud(config: LocalCloudConfig) -> AsyncIterator[LocalCloud]:
    found = LocalCloud(config, OWNER)
    await found.start()
    try:
        yield found
    finally:
        await found.close()
        await take_down(config)


async def take_down(config: LocalCloudConfig) -> None:
    await cli._down(config, argparse.Namespace())
    assert not exists(config.state_dir)


async def offering(cloud: LocalCloud, cpu_milli: int = 1000) -> Offering:
    return next(
        o for o in await cloud.describe_offerings() if o.cpu_milli == cpu_milli and o.capacity_type == "on-demand"
    )


async def request(cloud: LocalCloud, token: str, cpu_milli: int = 1000) -> LaunchRequest:
    return LaunchRequest(
        client_token=token,
        offerings=(await offering(cloud, cpu_milli),),
        tags={TAG_OWNER: OWNER, "Name": token},
        user_data=f'{{"for": "{token}"}}',
    )


def other_owner(request: LaunchRequest) -> LaunchRequest:
    return replace(request, tags={TAG_OWNER: "somebody-else"})
