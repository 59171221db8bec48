"""The agent against a metadata service that answers as EC2's (tests.booter), over HTTP on loopback."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from tests.booter.imds import Guest
from tests.booter.imdsserver import MetadataServer
from tests.unit.booter.machines import INTERFACE, MAC, guest
from vk_provider.agent.metadata import MetadataClient, MetadataError, NoSuchMetadataError, wait_for_metadata
from vk_provider.wire.bootdata import BootData

BOOT_DATA = BootData(ca_pem="PEM", boot_secret="ab")


@dataclass
class Service:
    url: str
    guest: Guest

    def assign(self, *addresses: str, prefixes: tuple[str, ...] = ()) -> None:
        interface = replace(INTERFACE, addresses=("10.1.0.8", *addresses), prefixes=prefixes)
        self.guest = replace(self.guest, machine=replace(self.guest.machine, interface=interface))


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    listener = socket.create_server(("127.0.0.1", 0))
    made = Service(f"http://127.0.0.1:{listener.getsockname()[1]}", guest(BOOT_DATA.to_user_data().encode()))
    server = MetadataServer(lambda _: made.guest)
    await server.serve(listener)
    yield made
    await server.close()


async def test_identity_addresses_and_boot_data_are_read(service: Service):
    metadata = await wait_for_metadata(service.url, "node-1")
    facts = metadata.facts
    assert (facts.instance_id, facts.instance_type, facts.zone) == ("i-0123456789abcdef0", "t3.micro", "eu-west-1b")
    assert (facts.primary_ip, facts.pod_ip) == ("10.1.0.8", "10.1.0.9")
    assert (metadata.mac, metadata.subnet_cidr, metadata.boot_data) == (MAC, "10.1.0.0/17", BOOT_DATA)


async def test_an_address_that_is_assigned_after_the_launch_is_waited_for(
    service: Service, caplog: pytest.LogCaptureFixture
):
    reopened = 0

    async def reopen() -> None:
        nonlocal reopened
        reopened += 1

    service.assign()
    with caplog.at_level(logging.WARNING):
        waiting = asyncio.create_task(wait_for_metadata(service.url, "node-1", reopen))
        while not caplog.records:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
        assert "no secondary address" in caplog.text and not waiting.done()
        service.assign("10.1.0.77")
        async with asyncio.timeout(30):
            assert (await waiting).facts.pod_ip == "10.1.0.77"
    assert (len(caplog.records), reopened) == (1, 0)


async def test_the_first_address_of_a_delegated_prefix_is_the_pods(service: Service):
    service.assign(prefixes=("10.1.0.32/28",))
    assert (await wait_for_metadata(service.url, "node-1")).facts.pod_ip == "10.1.0.32"


async def test_a_document_that_is_not_there_is_told_from_a_refusal(service: Service):
    async with MetadataClient(service.url) as source:
        with pytest.raises(NoSuchMetadataError, match="404"):
            await source.get("meta-data/spot/instance-action")
        service.guest = guest(endpoint_enabled=False)
        with pytest.raises(MetadataError, match="403"):
            await source.get("meta-data/mac")


async def test_a_token_that_the_service_does_not_know_any_more_is_renewed(service: Service):
    async with MetadataClient(service.url) as source:
        await source.get("meta-data/mac")
        other = replace(service.guest.machine, instance_id="i-0fedcba9876543210")  # whose token it is not
        service.guest = replace(service.guest, machine=other)
        assert await source.get("meta-data/instance-id") == "i-0fedcba9876543210"
