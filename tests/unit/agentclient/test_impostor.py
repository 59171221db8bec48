"""Servers that are not the instance they stand for, over real TLS on loopback: none of them gets a certificate."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.agent.loopback import INSTANCE_ID, LoopbackAgent
from vk_provider.agentclient.authority import Authority, read_csr
from vk_provider.agentclient.bootsecret import build_launch_id, derive_boot_secret
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.cloud.base import TAG_LAUNCH, Instance, InstanceState
from vk_provider.errors import AgentError, AgentIdentityError
from vk_provider.wire import routes

NOW = datetime.datetime.now(datetime.UTC)
IDENTITY = ProviderIdentity.create(NOW)
LAUNCH = build_launch_id(IDENTITY.master_secrets[-1], "token")
SECRET = derive_boot_secret(IDENTITY.master_secrets[-1], LAUNCH)
OTHER_SECRET = derive_boot_secret(
    IDENTITY.master_secrets[-1], build_launch_id(IDENTITY.master_secrets[-1], "other token")
)
INSTANCE = Instance(
    INSTANCE_ID,
    InstanceState.RUNNING,
    "t",
    "z",
    "on-demand",
    "amd64",
    "127.0.0.1",
    "10.0.0.2",
    0.0,
    {TAG_LAUNCH: LAUNCH},
)
Serve = Callable[[str], Awaitable[LoopbackAgent]]
Connect = Callable[..., HttpsConnector]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts a server with a new key at the instance's address; the one before is gone."""
    authority = Authority(IDENTITY.ca_pem, IDENTITY.ca_key_pem, 86400)
    started: list[LoopbackAgent] = []
    port = 0

    async def start(boot_secret: str) -> LoopbackAgent:
        nonlocal port
        for earlier in started:
            await earlier.stop()
        agent = LoopbackAgent(authority, tmp_path / str(len(started)), INSTANCE_ID, boot_secret)
        await agent.server.start("127.0.0.1", port)
        port = agent.port = agent.server.addresses[0][1]
        started.append(agent)
        return agent

    yield start
    await started[-1].stop()


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """A provider process that reaches an agent."""
    made: list[HttpsConnector] = []

    def build(agent: LoopbackAgent, identity: ProviderIdentity = IDENTITY) -> HttpsConnector:
        made.append(HttpsConnector(identity, 86400, agent.port))
        return made[-1]

    yield build
    for connector in made:
        await connector.close()


async def test_the_agent_of_the_launch_is_certified_and_found_again_by_the_next_process(
    serve: Serve, connect: Connect
) -> None:
    agent = await serve(SECRET)
    for fresh in (True, True, False):  # launched; a crash before any pod had started; a restart after
        connector = connect(agent)
        session = await connector.open_session(INSTANCE, fresh=fresh)
        await session.close()
    assert agent.identity.is_issued


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("secret", [OTHER_SECRET, "00"], ids=["of another launch", "guessed"])
async def test_a_server_that_knows_another_launchs_secret_is_never_certified(
    serve: Serve, connect: Connect, secret: str, fresh: bool
) -> None:
    impostor = await serve(secret)
    connector = connect(impostor)
    for _ in range(2):
        with pytest.raises(AgentIdentityError):
            await connector.open_session(INSTANCE, fresh=fresh)
    assert not impostor.identity.is_issued


async def test_the_secret_that_an_earlier_version_told_to_all_proves_nothing(serve: Serve, connect: Connect) -> None:
    document = IDENTITY.to_document()
    told = document["bootSecrets"] = document.pop("masterSecrets")
    identity = ProviderIdentity.from_document(document).with_new_master(NOW.timestamp())
    impostor = await serve(told[-1])
    connector = connect(impostor, identity)
    for tags in ({}, {TAG_LAUNCH: build_launch_id(identity.master_secrets[-1], "token")}, INSTANCE.tags):
        for fresh in (True, False):
            with pytest.raises(AgentIdentityError):
                await connector.open_session(replace(INSTANCE, tags=tags), fresh=fresh)
    assert not impostor.identity.is_issued


async def test_an_instance_of_an_earlier_version_is_adopted_by_its_certificate(serve: Serve, connect: Connect) -> None:
    agent = await serve("ab" * 32)
    agent.certify()
    connector = connect(agent)
    for fresh in (True, False):
        session = await connector.open_session(replace(INSTANCE, tags={}), fresh=fresh)
        await session.close()


@pytest.mark.parametrize("fresh", [True, False])
async def test_another_key_is_refused_whatever_it_proves(serve: Serve, connect: Connect, fresh: bool) -> None:
    """Not even the instance's own secret, or a certificate of our CA for its name, makes a second key its key."""
    first = await serve(SECRET)
    connector = connect(first)
    await (await connector.open_session(INSTANCE, fresh=True)).close()
    second = await serve(SECRET)
    with pytest.raises(AgentIdentityError):
        await connector.open_session(INSTANCE, fresh=fresh)
    assert not second.identity.is_issued
    second.certify()
    refusals: list[Callable[[], Awaitable[object]]] = [
        lambda: connector.open_session(INSTANCE, fresh=fresh),
        lambda: connector.request(INSTANCE, "GET", routes.HEALTHZ),
        lambda: connector.renew(INSTANCE),
    ]
    for attempt in refusals:
        with pytest.raises(AgentIdentityError, match="another key"):
            await attempt()


async def test_where_a_pod_has_started_not_even_the_boot_secret_leads_to_a_certificate(
    serve: Serve, connect: Connect
) -> None:
    """After a restart the provider knows no key, but it knows that there was a certificate."""
    impostor = await serve(SECRET)
    with pytest.raises(AgentIdentityError, match="no certificate of ours"):
        await connect(impostor).open_session(INSTANCE, fresh=False)
    assert not impostor.identity.is_issued


async def test_a_key_that_was_pinned_before_its_certificate_arrived_may_ask_again_and_no_other(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await serve(SECRET)
    connector = connect(agent)
    with monkeypatch.context() as patch:
        patch.setattr(agent.identity, "accept", lambda pem: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(AgentError, match="507"):
            await connector.open_session(INSTANCE, fresh=True)
    await (await connector.open_session(INSTANCE, fresh=True)).close()


async def test_a_key_is_forgotten_with_its_instance(serve: Serve, connect: Connect) -> None:
    first = await serve(SECRET)
    connector = connect(first)
    await (await connector.open_session(INSTANCE, fresh=True)).close()
    connector.forget(INSTANCE_ID)
    await (await connector.open_session(INSTANCE, fresh=True)).close()
    assert connector._pins._keys.keys() == {INSTANCE_ID}


async def test_a_renewal_certifies_no_other_key_than_the_one_that_asks(
    serve: Serve, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await serve(SECRET)
    connector = connect(agent)
    await (await connector.open_session(INSTANCE, fresh=True)).close()
    stranger = LoopbackAgent(agent.authority, tmp_path / "stranger", INSTANCE_ID, SECRET)
    monkeypatch.setattr(agent.identity, "answer", stranger.identity.answer)
    with pytest.raises(AgentIdentityError, match="another key"):
        await connector.renew(INSTANCE)


@pytest.mark.parametrize(
    "text", ["", "no PEM", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"]
)
def test_a_csr_that_is_none_is_an_identity_error(text: str) -> None:
    with pytest.raises(AgentIdentityError, match="malformed"):
        read_csr(text, "i-1")
