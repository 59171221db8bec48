"""An agent whose certificate ran out while the provider was away, over real TLS on loopback."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.agent.loopback import INSTANCE_ID, LoopbackAgent
from vk_provider.agentclient.authority import Authority, read_csr
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.cloud.base import Instance, InstanceState
from vk_provider.errors import AgentIdentityError

NOW = datetime.datetime.now(datetime.UTC)
INSTANCE = Instance(INSTANCE_ID, InstanceState.RUNNING, "t", "z", "on-demand", "amd64", "127.0.0.1", "10.0.0.2", 0.0)
IDENTITY = ProviderIdentity.create(NOW - datetime.timedelta(days=9))
FORGOTTEN = "ab" * 32


def certify(agent: LoopbackAgent, authority: Authority, age: datetime.timedelta) -> None:
    csr = read_csr(str(agent.identity.answer("00", [1])["csr"]), INSTANCE_ID)
    agent.identity.accept(authority.sign_instance(csr, INSTANCE_ID, NOW - age).pem)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[LoopbackAgent]:
    """It was told a boot secret that the provider has rotated away since."""
    authority = Authority(IDENTITY.ca_pem, IDENTITY.ca_key_pem, 86400)
    served = LoopbackAgent(authority, tmp_path, INSTANCE_ID, FORGOTTEN)
    await served.start()
    yield served
    await served.stop()


@pytest.fixture
async def connector(agent: LoopbackAgent) -> AsyncIterator[HttpsConnector]:
    made = HttpsConnector(IDENTITY, 86400, agent.port)
    yield made
    await made.close()


async def test_an_expired_certificate_of_ours_is_renewed_when_the_boot_secret_is_forgotten(
    agent: LoopbackAgent, connector: HttpsConnector
):
    certify(agent, agent.authority, datetime.timedelta(days=5))
    session = await connector.open_session(INSTANCE, fresh=False)
    assert 3600 * 15 < connector.renewal_delay_s(INSTANCE) <= 3600 * 16
    await session.close()


async def test_an_agent_that_was_never_certified_is_refused(connector: HttpsConnector):
    with pytest.raises(AgentIdentityError, match="no certificate of ours"):
        await connector.open_session(INSTANCE, fresh=False)


async def test_the_certificate_of_another_instance_is_not_renewed(agent: LoopbackAgent, connector: HttpsConnector):
    certify(agent, agent.authority, datetime.timedelta(days=5))
    with pytest.raises(AgentIdentityError, match="no certificate of ours"):
        await connector.open_session(replace(INSTANCE, instance_id="i-other"), fresh=False)
