"""EC2 as moto's patched server plays it: an account, a cloud in it, and launch requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.aws.permissions import Calls, is_complete, record
from tests.moto.fixtures import account, moto, moto_server
from tests.moto.server import Account, MotoServer
from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.base import TAG_LAUNCH, TAG_OWNER, LaunchRequest, Offering

__all__ = ["account", "moto", "moto_server"]

OWNER = "aws-test"
OWNERS = (OWNER, "test")
"""The other one is tests.unit.pods.rig's."""


@pytest.fixture(scope="package", autouse=True)
def calls_here(request: pytest.FixtureRequest) -> Iterator[Calls]:
    """All calls of the provider are such as manifests/iam/provider.json allows, and every action there was needed, or
    it is one too many."""
    with pytest.MonkeyPatch.context() as patch:
        calls = record(patch)
        yield calls
    assert not calls.refused, f"manifests/iam/provider.json does not allow {len(calls.refused)}: {calls.refused[:5]}"
    if is_complete(request.session):
        assert not calls.unused(), f"manifests/iam/provider.json allows what nothing calls: {sorted(calls.unused())}"


@pytest.fixture(autouse=True)
def permissions(request: pytest.FixtureRequest, calls_here: Calls, moto: MotoServer) -> Iterator[None]:
    """The calls of the test are judged at its end, while moto still knows the tags of what they were about."""
    yield
    calls_here.judge(request.node.name, OWNERS, moto.tags())


@asynccontextmanager
async def started(moto: MotoServer, account: Account, **more: Any) -> AsyncIterator[AwsCloud]:
    """A provider's cloud; another one is another process."""
    made = AwsCloud(moto.settings(account, **more), OWNER)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def cloud(moto: MotoServer, account: Account) -> AsyncIterator[AwsCloud]:
    async with started(moto, account) as made:
        yield made


def offering(
    account: Account, instance_type: str = "m7i.large", zone: int = 0, capacity_type: str = "on-demand"
) -> Offering:
    return Offering(instance_type, account.zones[zone], capacity_type, "amd64", 2000, 8 << 30, 0.1)


def request(token: str, *offerings: Offering, count: int = 1, **more: Any) -> LaunchRequest:
    """As the room for the instances makes them: with the launch's own tag."""
    tags = {TAG_OWNER: OWNER, TAG_LAUNCH: f"g/{token}", "pod/app": "web"}
    return replace(LaunchRequest(token, offerings, tags, "{}", count), **more)
