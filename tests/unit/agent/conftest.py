"""Fixtures: a provider's CA and an agent's server on loopback with real TLS."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.agent.loopback import BOOT_SECRET, INSTANCE_ID, LoopbackAgent
from vk_provider.agentclient.authority import Authority, create_authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    ca_pem, key_pem = create_authority(datetime.datetime.now(datetime.UTC))
    return Authority(ca_pem, key_pem, 3600)


@pytest.fixture
async def agent(authority: Authority, tmp_path: Path) -> AsyncIterator[LoopbackAgent]:
    """An agent's server, not certified yet."""
    served = LoopbackAgent(authority, tmp_path, INSTANCE_ID, BOOT_SECRET)
    await served.start()
    yield served
    await served.stop()
