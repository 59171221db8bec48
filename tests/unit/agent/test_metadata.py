"""What the agent reads from the metadata endpoint, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.metadata import (
    InstanceMetadata,
    KeptMetadata,
    MetadataClient,
    MetadataError,
    NoPodAddressError,
    NoSuchMetadataError,
    fetch_metadata,
    wait_for_metadata,
)
from vk_provider.wire.bootdata import AWAIT_IPV6, BootData

BOOT_DATA = BootData(ca_pem="PEM", boot_secret="ab", registries={"r:5000": {"server": "http://r:5000"}})
INTERFACE = "meta-data/network/interfaces/macs/02:aa:bb:cc:dd:ee"
ANSWERS = {
    "user-data": BOOT_DATA.to_user_data(),
    "meta-data/instance-id": "i-1",
    "meta-data/mac": "02:AA:bb:cc:dd:ee",
    "meta-data/local-ipv4": "10.1.0.8",
    "meta-data/instance-type": "t.small",
    "meta-data/placement/availability-zone": "local-a",
    f"{INTERFACE}/local-ipv4s": "10.1.0.8\n10.1.0.9\n",
    f"{INTERFACE}/subnet-ipv4-cidr-block": "10.1.0.0/16",
}


class Endpoint:
    """An IMDSv2 endpoint; `fail_next` requests are answered with 503 first."""

    def __init__(self) -> None:
        self.answers: dict[str, str | bytes] = dict(ANSWERS)
        self.fail_next = 0
        self.tokens = 0
        app = web.Application()
        app.router.add_route("*", "/latest/{path:.*}", self._handle)
        self.server = TestServer(app)

    async def _handle(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        if self.fail_next:
            self.fail_next -= 1
            return web.Response(status=503)
        if request.method == "PUT":
            assert path == "api/token" and int(request.headers["X-aws-ec2-metadata-token-ttl-seconds"]) > 0
            self.tokens += 1
            return web.Response(text=f"token-{self.tokens}")
        if request.headers.get("X-aws-ec2-metadata-token") != f"token-{self.tokens}":
            return web.Response(status=401)
        if path not in self.answers:
            return web.Response(status=404)
        answer = self.answers[path]
        return web.Response(body=answer if isinstance(answer, bytes) else answer.encode())

    @property
    def url(self) -> str:
        return str(self.server.make_url("/")).rstrip("/")


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    served = Endpoint()
    await served.server.start_server()
    yield served
    await served.server.close()


async def test_facts_addresses_and_boot_data_are_read(endpoint: Endpoint):
    async with MetadataClient(endpoint.url) as source:
        metadata = await fetch_metadata(source, "node-1")
    facts = metadata.facts
    assert (facts.instance_id, facts.instance_type, facts.zone) == ("i-1", "t.small", "local-a")
    assert (facts.primary_ip, facts.pod_ip, facts.hostname) == ("10.1.0.8", "10.1.0.9", "node-1")
    assert (metadata.mac, metadata.subnet_cidr) == ("02:aa:bb:cc:dd:ee", "10.1.0.0/16")
    assert metadata.boot_data == BOOT_DATA
    assert endpoint.tokens == 1


IPV6 = {
    "meta-data/ipv6": "fd00:1:0:0::8",
    f"{INTERFACE}/ipv6s": "fd00:1::8\nfd00:1::9\n",
    f"{INTERFACE}/subnet-ipv6-cidr-blocks": "fd00:2::/64\nfd00:1::/64\n",
}


async def test_an_instance_with_ipv6_has_addresses_of_both_families_ipv4_first(endpoint: Endpoint, tmp_path: Path):
    endpoint.answers |= IPV6
    async with MetadataClient(endpoint.url) as source:
        metadata = await fetch_metadata(source, "node-1")
    assert metadata.facts.host_ips == ("10.1.0.8", "fd00:1::8")
    assert metadata.facts.pod_ips == ("10.1.0.9", "fd00:1::9")
    assert metadata.subnet_ipv6_cidr == "fd00:1::/64"
    kept = KeptMetadata(tmp_path / "metadata.json")
    kept.save(metadata)
    assert kept.load() == metadata


async def test_an_instance_with_one_ipv6_address_has_none_for_its_pod_and_uses_ipv4_alone(endpoint: Endpoint):
    endpoint.answers |= {**IPV6, f"{INTERFACE}/ipv6s": "fd00:1::8"}
    async with MetadataClient(endpoint.url) as source:
        metadata = await fetch_metadata(source, "node-1")
    assert (metadata.facts.host_ips, metadata.facts.pod_ips) == (("10.1.0.8",), ("10.1.0.9",))
    assert metadata.subnet_ipv6_cidr == ""


async def test_an_agent_that_is_told_so_waits_for_the_pods_ipv6_address(endpoint: Endpoint):
    waiting = dataclasses.replace(BOOT_DATA, extra={AWAIT_IPV6: True}).to_user_data()
    one = {**IPV6, f"{INTERFACE}/ipv6s": "fd00:1::8"}
    async with MetadataClient(endpoint.url) as source:
        for known in ({}, one):
            endpoint.answers |= {**known, "user-data": waiting}
            with pytest.raises(NoPodAddressError, match="secondary IPv6 address"):
                await fetch_metadata(source, "node-1")
        endpoint.answers |= IPV6
        assert (await fetch_metadata(source, "node-1")).facts.pod_ips == ("10.1.0.9", "fd00:1::9")


async def test_an_endpoint_that_fails_is_not_one_without_ipv6(endpoint: Endpoint):
    """Else a pod would have one address or two, by chance."""

    class Failing:
        async def get(self, path: str) -> str:
            if path == "meta-data/ipv6":
                raise MetadataError("metadata: GET meta-data/ipv6 answered 503")
            if path not in endpoint.answers:
                raise NoSuchMetadataError(path)
            return str(endpoint.answers[path])

    with pytest.raises(MetadataError, match="503"):
        await fetch_metadata(Failing(), "node-1")


def test_what_an_agent_without_ipv6_has_kept_is_read(tmp_path: Path):
    facts = {
        "instance_id": "i-1",
        "primary_ip": "10.1.0.8",
        "pod_ip": "10.1.0.9",
        "instance_type": "t",
        "zone": "z",
        "hostname": "h",
    }
    document = {"facts": facts, "userData": BOOT_DATA.to_user_data(), "mac": "02:aa", "subnetCIDR": "10.1.0.0/16"}
    (tmp_path / "metadata.json").write_text(json.dumps(document))
    kept = KeptMetadata(tmp_path / "metadata.json").load()
    assert kept is not None
    assert (kept.facts.host_ips, kept.facts.pod_ips) == (("10.1.0.8",), ("10.1.0.9",))


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        (f"{INTERFACE}/local-ipv4s", "10.1.0.8", "no secondary address"),
        ("user-data", "#!/bin/sh", "metadata: "),
        ("user-data", b"\x1f\x8b\x08", "user-data is not text"),
        ("user-data", "{}", "not a vk-provider BootData document"),
        ("user-data", '{"kind": "BootData", "versions": [1], "agentPort": 1}', "lacks 'caPEM'"),
        ("user-data", '{"kind": "BootData", "caPEM": "", "bootSecret": "ab", "versions": null}', "malformed"),
        ("user-data", BOOT_DATA.to_user_data().replace('"ab"', '"not hex"'), "bootSecret is not a hex string"),
    ],
)
async def test_incomplete_metadata_is_an_error_that_says_what_is_missing(
    endpoint: Endpoint, path: str, text: str | bytes, complaint: str
):
    endpoint.answers[path] = text
    async with MetadataClient(endpoint.url) as source:
        with pytest.raises(MetadataError, match=complaint):
            await fetch_metadata(source, "node-1")


async def test_a_missing_document_names_its_path(endpoint: Endpoint):
    del endpoint.answers["user-data"]
    async with MetadataClient(endpoint.url) as source:
        with pytest.raises(MetadataError, match="GET user-data answered 404"):
            await fetch_metadata(source, "node-1")


async def test_an_expired_token_is_renewed_and_failures_are_waited_out(endpoint: Endpoint):
    async with MetadataClient(endpoint.url) as source:
        await source.get("user-data")
        endpoint.tokens += 1  # the endpoint has forgotten the first one
        found = await asyncio.gather(*(source.get("meta-data/instance-id") for _ in range(5)))
        assert (set(found), endpoint.tokens) == ({"i-1"}, 3)
    endpoint.fail_next = 2
    assert (await wait_for_metadata(endpoint.url, "node-1")).facts.instance_id == "i-1"


async def test_nobody_listening_is_a_metadata_error():
    async with MetadataClient("http://127.0.0.1:1") as source:
        with pytest.raises(MetadataError, match=r"127\.0\.0\.1:1"):
            await source.get("user-data")


async def test_an_endpoint_that_does_not_answer_is_opened_once(endpoint: Endpoint):
    """An agent before this one closed it, and what that one kept is lost."""
    opened = 0

    async def reopen() -> None:
        nonlocal opened
        opened += 1

    await wait_for_metadata(endpoint.url, "node-1", reopen)
    assert opened == 0
    endpoint.fail_next = 3
    await wait_for_metadata(endpoint.url, "node-1", reopen)
    assert opened == 1


METADATA = InstanceMetadata(
    InstanceFacts("i-1", "10.1.0.8", "10.1.0.9", "t.small", "local-a", "node-1"),
    dataclasses.replace(BOOT_DATA, extra={"a": 1}, agent_port=7),
    "02:aa:bb:cc:dd:ee",
    "10.1.0.0/16",
)


def test_what_is_kept_is_read_again_by_the_next_agent_and_by_root_alone(tmp_path: Path):
    path = tmp_path / "run" / "metadata.json"
    assert KeptMetadata(path).load() is None
    KeptMetadata(path).save(METADATA)
    assert KeptMetadata(path).load() == METADATA
    assert [(found.name, stat.S_IMODE(found.stat().st_mode)) for found in path.parent.iterdir()] == [(path.name, 0o600)]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"userData": "{}"}', '{"userData": 1}'])
def test_what_cannot_be_read_counts_as_not_kept_and_is_told(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "metadata.json"
    path.write_text(text)
    assert KeptMetadata(path).load() is None
    assert str(path) in caplog.text
