"""The catalog asks a real client of the SDK, which asks moto's server: all of AWS's instance types as they were
published, spot prices that cannot be believed, and no Pricing API."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aioboto3
import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from vk_provider.cloud.aws.catalog.catalog import AwsCatalog, Scope
from vk_provider.cloud.aws.catalog.settings import CatalogSettings
from vk_provider.errors import CloudError
from vk_provider.sizing.preferences import build_preferences
from vk_provider.sizing.selection import OfferingSelector, Refusal, Selection

REGION = "us-east-1"
SUBNETS = {"us-east-1a": ("subnet-1",), "us-east-1b": ("subnet-2",)}
START_LIMIT_S = 30.0


class Client:
    """CatalogClient over clients of the SDK."""

    def __init__(self, ec2: Any, pricing: Any) -> None:
        self._ec2, self._pricing = ec2, pricing

    def __getattr__(self, name: str) -> Any:
        client = self._pricing if name == "get_products" else self._ec2

        async def call(**parameters: Any) -> Mapping[str, Any]:
            try:
                answer: Mapping[str, Any] = await getattr(client, name)(**parameters)
            except (ClientError, BotoCoreError) as error:
                raise CloudError(str(error)) from error
            return answer

        return call


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port, server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("moto's server does not start")


@pytest.fixture
async def catalog(endpoint: str, tmp_path: Path) -> AsyncIterator[AwsCatalog]:
    session = aioboto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    config = AioConfig(retries={"total_max_attempts": 1})
    async with (
        session.client("ec2", endpoint_url=endpoint, config=config) as ec2,
        session.client("pricing", endpoint_url=endpoint, config=config) as pricing,
    ):
        settings = CatalogSettings(directory=str(tmp_path))
        yield AwsCatalog(Client(ec2, pricing), Scope(REGION, lambda: SUBNETS), settings)


def pod(cpu: str, memory: str, **more: Any) -> dict[str, Any]:
    requests = {"cpu": cpu, "memory": memory, **more.pop("resources", {})}
    return {
        "metadata": {"annotations": {f"vk-provider/{key.replace('_', '-')}": value for key, value in more.items()}},
        "spec": {"containers": [{"resources": {"requests": requests}}]},
    }


async def test_pods_get_what_they_need_of_all_that_ec2_has_also_without_its_prices(
    catalog: AwsCatalog, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(240):
        await catalog.refresh()
    offerings = list(catalog.offerings())
    assert len({each.instance_type for each in offerings}) > 500 and {o.zone for o in offerings} == set(SUBNETS)
    assert {each.architecture for each in offerings} == {"amd64", "arm64"}
    assert not [each for each in offerings if each.instance_type.startswith("mac")]
    selector = OfferingSelector(offerings)
    preferences = build_preferences("", "amd64", offerings)

    def choose(subject: dict[str, Any]) -> str:
        found = selector.select(subject, frozenset(), preferences)
        if isinstance(found, Refusal):
            return f"none: {found.removed_by}"
        assert isinstance(found, Selection)
        return found.offering.instance_type

    small = choose(pod("250m", "256Mi"))
    assert small.startswith("t3"), small
    assert choose(pod("2", "6Gi", architecture="arm64")).endswith("g.large")
    assert choose(pod("2", "8Gi", instance_family="m7i")) == "m7i.xlarge", "8 GiB of memory have no 8 GiB for a pod"
    assert choose(pod("2", "7Gi", instance_family="m7i")) == "m7i.large"
    gpu = pod("2", "8Gi", resources={"nvidia.com/gpu": "1"}, gpu_name="l4")
    assert choose(gpu).startswith("g6.")
    assert choose(pod("2", "8Gi", resources={"nvidia.com/gpu": "1"}, gpu_memory="40Gi")).startswith("g6e.")
    assert choose(pod("2", "2Gi", local_disk="400G", instance_family="i4i")) == "i4i.large"
    assert choose(pod("2", "100Ti")) == "none: memory"
    found = {(o.instance_type, o.capacity_type): o.price_per_hour for o in offerings}
    assert found[("m7i.large", "on-demand")] == found[("m7i.large", "spot")] == 0.1008, "the bundled table's"
    assert "on-demand prices stay as they were" in caplog.text
