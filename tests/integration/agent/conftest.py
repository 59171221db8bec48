"""Fixtures: a private containerd per test module, a ContainerRuntime per test. Needs root (and fails without)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.agent.private_containerd import PrivateContainerd
from vk_provider.agent.runtime import ContainerRuntime


@pytest.fixture(scope="module")
def containerd() -> Iterator[PrivateContainerd]:
    """A running containerd with images; the main thread is in its network namespace."""
    private = PrivateContainerd()
    try:
        private.start()
        yield private
    finally:
        private.stop()


@pytest.fixture
async def runtime(containerd: PrivateContainerd) -> AsyncIterator[ContainerRuntime]:
    """A client of it. Pod sandboxes that the test leaves are removed."""
    client = ContainerRuntime(containerd.address)
    await client.wait_ready(10)
    yield client
    for sandbox in await client.list_pod_sandboxes():
        await client.stop_pod_sandbox(sandbox.id)
        await client.remove_pod_sandbox(sandbox.id)
    await client.close()
