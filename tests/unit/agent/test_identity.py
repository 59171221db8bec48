"""The agent's identity: what it proves, what it accepts, what it keeps. Real TLS on loopback."""

from __future__ import annotations

import asyncio
import datetime
import errno
import ssl
from pathlib import Path

import aiohttp
import pytest

from tests.unit.agent.loopback import BOOT_SECRET, INSTANCE_ID, LoopbackAgent, ProviderClient
from vk_provider.agent.identity import AgentIdentity, IdentityRefused
from vk_provider.agent.server import LIMITS
from vk_provider.agentclient.authority import Authority, create_authority, read_csr
from vk_provider.agentclient.bootsecret import verify_proof
from vk_provider.wire import routes

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def sign(authority: Authority, csr: object, instance_id: str = INSTANCE_ID) -> str:
    now = datetime.datetime.now(datetime.UTC)
    return authority.sign_instance(read_csr(str(csr), instance_id), instance_id, now).pem


async def test_the_exchange_certifies_the_agent_for_the_next_connection(agent: LoopbackAgent):
    async with agent.client(verify=False) as first:
        assert await first.get(routes.HEALTHZ) == (403, "the agent has no certificate yet\n")
        status, answer = await first.post(routes.IDENTITY_REQUEST, {"nonce": "a1b2"})
        assert status == 200
        assert answer["instanceID"] == INSTANCE_ID and 1 in answer["versions"]
        assert verify_proof(BOOT_SECRET, "a1b2", INSTANCE_ID, answer["csr"], answer["hmac"])
        assert not verify_proof(BOOT_SECRET, "other", INSTANCE_ID, answer["csr"], answer["hmac"])
        chain = sign(agent.authority, answer["csr"])
        assert await first.post(routes.IDENTITY_CERTIFICATE, {"certificate": chain}) == (204, "")
    async with agent.client(verify=True) as second:
        assert await second.get(routes.HEALTHZ) == (200, "ok")


async def test_without_a_client_certificate_nothing_answers(agent: LoopbackAgent):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with ProviderClient(agent, context) as client:
        with pytest.raises(aiohttp.ClientError):
            await client.post(routes.IDENTITY_REQUEST, {"nonce": "00"})


async def test_who_is_not_the_provider_stays_among_the_pending_and_the_providers_heads_have_a_bound(
    agent: LoopbackAgent,
) -> None:
    (site,) = agent.server._runner.sites
    silent, silent_writer = await asyncio.open_connection("127.0.0.1", agent.port)
    context = agent.authority.client_context(datetime.datetime.now(datetime.UTC), verify=False)
    reader, writer = await asyncio.open_connection("127.0.0.1", agent.port, ssl=context, server_hostname="x")
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert len(site.pending) == 1
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nx: " + b"x" * LIMITS.head_bytes)
    assert b" 431 Request Header Fields Too Large" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    for each in (silent_writer, writer):
        each.transport.abort()


@pytest.mark.parametrize("ahead", [datetime.timedelta(hours=-3), datetime.timedelta(hours=12)])
async def test_an_agent_whose_clock_is_wrong_by_hours_is_certified(tmp_path: Path, ahead: datetime.timedelta):
    """The provider's clock is `ahead` of the agent's; the agent's own certificate is for the provider to judge."""
    now = datetime.datetime.now(datetime.UTC) + ahead
    authority = Authority(*create_authority(now), 86400)
    agent = LoopbackAgent(authority, tmp_path, INSTANCE_ID, BOOT_SECRET)
    await agent.start()
    try:
        async with ProviderClient(agent, authority.client_context(now, verify=False)) as client:
            _, answer = await client.post(routes.IDENTITY_REQUEST, {"nonce": "a1b2"})
            chain = authority.sign_instance(read_csr(answer["csr"], INSTANCE_ID), INSTANCE_ID, now).pem
            assert await client.post(routes.IDENTITY_CERTIFICATE, {"certificate": chain}) == (204, "")
    finally:
        await agent.stop()


async def test_another_instance_is_not_the_provider(agent: LoopbackAgent, authority: Authority, tmp_path: Path):
    """Instances hold certificates of the same CA, and fetch blobs with them: all else is for the provider's name,
    and blobs need a grant."""
    other = AgentIdentity(tmp_path / "other", "i-other", authority.certificate_pem, BOOT_SECRET)
    other.load_or_create()
    other.accept(sign(authority, other.answer("00", [1])["csr"], "i-other"))
    directory = tmp_path / "other" / "i-other"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    agent.certify()
    async with ProviderClient(agent, context) as client:
        for path in (routes.HEALTHZ, routes.METRICS, routes.LOGS, f"{routes.BLOBS}x", routes.BLOBS, "/nothing"):
            assert (await client.get(path))[0] == 403
        assert (await client.post(routes.IDENTITY_REQUEST, {"nonce": "00"}))[0] == 403


async def test_a_malformed_identity_request_is_a_bad_request(agent: LoopbackAgent):
    async with agent.client(verify=False) as client:
        for body in ({}, {"nonce": 7}, {"nonce": ""}, [], "nonce"):
            assert (await client.post(routes.IDENTITY_REQUEST, body))[0] == 400


async def test_a_refused_certificate_leaves_the_old_one_in_use(agent: LoopbackAgent):
    agent.certify()
    async with agent.client(verify=True) as client:
        status, reason = await client.post(routes.IDENTITY_CERTIFICATE, {"certificate": "not PEM"})
        assert status == 422 and "malformed" in reason
    async with agent.client(verify=True) as client:
        assert (await client.get(routes.HEALTHZ))[0] == 200


async def test_a_full_disk_is_named_and_the_old_certificate_stays_in_use(
    agent: LoopbackAgent, monkeypatch: pytest.MonkeyPatch
):
    agent.certify()
    before = agent.identity._certificate_path.read_text()
    chain = sign(agent.authority, agent.identity.answer("00", [1])["csr"])
    with monkeypatch.context() as patch:
        patch.setattr("vk_provider.agent.identity.os.replace", lambda *_: (_ for _ in ()).throw(NO_SPACE))
        async with agent.client(verify=True) as client:
            status, reason = await client.post(routes.IDENTITY_CERTIFICATE, {"certificate": chain})
            assert (status, reason) == (507, "the certificate cannot be kept: No space left on device\n")
    assert agent.identity._certificate_path.read_text() == before
    async with agent.client(verify=True) as client:
        assert (await client.get(routes.HEALTHZ))[0] == 200
        assert (await client.post(routes.IDENTITY_CERTIFICATE, {"certificate": chain}))[0] == 204


def test_certificates_for_other_keys_names_and_authorities_are_refused(authority: Authority, tmp_path: Path):
    identity = AgentIdentity(tmp_path / "a", INSTANCE_ID, authority.certificate_pem, BOOT_SECRET)
    identity.load_or_create()
    csr = identity.answer("00", [1])["csr"]
    stranger = AgentIdentity(tmp_path / "b", INSTANCE_ID, authority.certificate_pem, BOOT_SECRET)
    stranger.load_or_create()
    with pytest.raises(IdentityRefused, match="another key"):
        identity.accept(sign(authority, stranger.answer("00", [1])["csr"]))
    with pytest.raises(IdentityRefused, match="not for i-"):
        identity.accept(sign(authority, csr, "i-someone-else"))
    foreign = Authority(*create_authority(datetime.datetime.now(datetime.UTC)), 3600)
    with pytest.raises(IdentityRefused, match="not signed by the provider's CA"):
        identity.accept(sign(foreign, csr))
    assert not identity.is_issued
    identity.accept(sign(authority, csr))
    assert identity.is_issued


def test_key_and_certificate_survive_a_restart_and_are_private(authority: Authority, tmp_path: Path):
    first = AgentIdentity(tmp_path, INSTANCE_ID, authority.certificate_pem, BOOT_SECRET)
    first.load_or_create()
    csr = first.answer("00", [1])["csr"]
    first.accept(sign(authority, csr))
    again = AgentIdentity(tmp_path, INSTANCE_ID, authority.certificate_pem, BOOT_SECRET)
    again.load_or_create()
    assert again.is_issued and again.answer("00", [1])["csr"] == csr
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / INSTANCE_ID).iterdir()}
    assert modes["key.pem"] == 0o600 and set(modes.values()) == {0o600}


def test_a_copied_disk_does_not_hand_the_key_to_another_instance(authority: Authority, tmp_path: Path):
    first = AgentIdentity(tmp_path, INSTANCE_ID, authority.certificate_pem, BOOT_SECRET)
    first.load_or_create()
    first.accept(sign(authority, first.answer("00", [1])["csr"]))
    copied = AgentIdentity(tmp_path, "i-copy", authority.certificate_pem, BOOT_SECRET)
    copied.load_or_create()
    assert not copied.is_issued and copied.answer("00", [1])["csr"] != first.answer("00", [1])["csr"]


def test_a_damaged_key_is_made_anew(authority: Authority, tmp_path: Path):
    first = AgentIdentity(tmp_path, INSTANCE_ID, authority.certificate_pem, BOOT_SECRET)
    first.load_or_create()
    first.accept(sign(authority, first.answer("00", [1])["csr"]))
    (tmp_path / INSTANCE_ID / "key.pem").write_text("")
    again = AgentIdentity(tmp_path, INSTANCE_ID, authority.certificate_pem, BOOT_SECRET)
    again.load_or_create()
    assert not again.is_issued
    again.accept(sign(authority, again.answer("00", [1])["csr"]))
