"""Reads the instance's metadata endpoint (IMDSv2 as EC2 serves it): identity, addresses, boot data.

It is read once a boot: agent.metadata_guard closes the endpoint afterwards, for the agent as well.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import aiohttp
import orjson

from vk_provider.agent.facts import InstanceFacts
from vk_provider.aiokit.backoff import Backoff
from vk_provider.errors import AgentError
from vk_provider.wire.bootdata import BootData

log = logging.getLogger(__name__)

TOKEN_TTL_S = 300
REQUEST_TIMEOUT_S = 2.0


class MetadataError(AgentError):
    """The metadata endpoint does not answer, or not with what an instance needs."""


class NoSuchMetadataError(MetadataError):
    """The endpoint answers, and has no such document."""


@dataclass(frozen=True, slots=True)
class InstanceMetadata:
    """Everything the agent takes from the endpoint. `mac`: lower case with colons; `subnet_ipv6_cidr`: "" without
    IPv6."""

    facts: InstanceFacts
    boot_data: BootData
    mac: str
    subnet_cidr: str
    subnet_ipv6_cidr: str = ""


class MetadataSource(Protocol):
    """A metadata endpoint."""

    async def get(self, path: str) -> str:
        """Text at /latest/<path>; raises MetadataError, NoSuchMetadataError where there is none."""


class MetadataClient:
    """MetadataSource over HTTP with a session token. Use as an async context manager."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._token = ""

    async def __aenter__(self) -> MetadataClient:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        self._http = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def get(self, path: str) -> str:
        if not self._token:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
            self._token = await self._request("PUT", "api/token", headers)
        return await self._request("GET", path, {"X-aws-ec2-metadata-token": self._token})

    async def _request(self, method: str, path: str, headers: dict[str, str]) -> str:
        url = f"{self._url}/latest/{path}"
        try:
            async with self._http.request(method, url, headers=headers) as response:
                if response.status == HTTPStatus.UNAUTHORIZED:
                    self._token = ""
                if response.status != HTTPStatus.OK:
                    kind = NoSuchMetadataError if response.status == HTTPStatus.NOT_FOUND else MetadataError
                    raise kind(f"metadata: {method} {path} answered {response.status}")
                return await response.text()
        except UnicodeDecodeError:
            raise MetadataError(f"metadata: {path} is not text") from None
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise MetadataError(f"metadata endpoint {self._url}: {error or type(error).__name__}") from None


async def fetch_metadata(source: MetadataSource, hostname: str) -> InstanceMetadata:
    """Read everything once. Raises MetadataError, also while the pod address is not assigned yet."""
    user_data = await source.get("user-data")
    instance_id, mac, primary_ip, instance_type, zone = await asyncio.gather(
        *(source.get(f"meta-data/{key}") for key in _KEYS)
    )
    mac = mac.strip().strip("/").lower()
    interface = f"meta-data/network/interfaces/macs/{mac}"
    addresses, subnet_cidr, primary_ipv6 = await asyncio.gather(
        source.get(f"{interface}/local-ipv4s"),
        source.get(f"{interface}/subnet-ipv4-cidr-block"),
        _get_optional(source, "meta-data/ipv6"),
    )
    secondary = [address for address in addresses.split() if address != primary_ip.strip()]
    if not secondary:
        raise MetadataError("metadata: the instance has no secondary address for its pod")
    pod_ipv6 = subnet_ipv6_cidr = ""
    if primary_ipv6:
        primary_ipv6, pod_ipv6, subnet_ipv6_cidr = await _fetch_ipv6(source, interface, primary_ipv6)
    facts = InstanceFacts(
        instance_id=instance_id.strip(),
        primary_ip=primary_ip.strip(),
        pod_ip=secondary[0],
        instance_type=instance_type.strip(),
        zone=zone.strip(),
        hostname=hostname,
        primary_ipv6=primary_ipv6,
        pod_ipv6=pod_ipv6,
    )
    return InstanceMetadata(facts, _parse_boot_data(user_data), mac, subnet_cidr.strip(), subnet_ipv6_cidr)


async def _get_optional(source: MetadataSource, path: str) -> str:
    try:
        return (await source.get(path)).strip()
    except NoSuchMetadataError:
        return ""


async def _fetch_ipv6(source: MetadataSource, interface: str, primary_ipv6: str) -> tuple[str, str, str]:
    """(the instance's address, the pod's, the subnet's block). Of several blocks it is the one that the pod's is in.
    All are "" where the pod has no address: a subnet that gives each instance one IPv6 address does not make a Node
    with two families. Raises MetadataError."""
    addresses, blocks = await asyncio.gather(
        source.get(f"{interface}/ipv6s"), source.get(f"{interface}/subnet-ipv6-cidr-blocks")
    )
    try:
        own, *listed = [ipaddress.IPv6Address(text) for text in (primary_ipv6, *addresses.split())]
        networks = [ipaddress.IPv6Network(text, strict=False) for text in blocks.split()]
    except ValueError as error:
        raise MetadataError(f"metadata: {error}") from None
    pod = next((address for address in listed if address != own), None)
    if pod is None:
        log.info("the instance has no secondary IPv6 address for its pod: its IPv6 address %s is not used", own)
        return "", "", ""
    block = next((network for network in networks if pod in network), None)
    if block is None:
        raise MetadataError(f"metadata: the pod's address {pod} is in no IPv6 block of the subnet")
    return str(own), str(pod), str(block)


_KEYS = ("instance-id", "mac", "local-ipv4", "instance-type", "placement/availability-zone")


def _parse_boot_data(user_data: str) -> BootData:
    try:
        return BootData.from_user_data(user_data)
    except ValueError as error:
        raise MetadataError(f"metadata: {error}") from None


async def wait_for_metadata(
    url: str, hostname: str, reopen: Callable[[], Awaitable[None]] | None = None
) -> InstanceMetadata:
    """Read the metadata, and retry until it is complete.

    reopen: called once when the endpoint does not answer, to let the agent through. An agent before this one may have
            closed it, and what that one kept is lost.
    """
    backoff = Backoff(first_s=0.01, max_s=2.0, factor=1.5)
    logged = ""
    async with MetadataClient(url) as source:
        while True:
            try:
                return await fetch_metadata(source, hostname)
            except MetadataError as error:
                if str(error) != logged:
                    logged = str(error)
                    log.warning("waiting for the metadata endpoint: %s", error)
            if reopen is not None:
                await reopen()
                reopen = None
            await asyncio.sleep(backoff.next_delay_s())


class KeptMetadata:
    """The metadata in a file for the next agent process of this boot. It holds the boot secret, so it is
    readable by root only.

    `path` must not outlive a reboot, as the closed endpoint does not, nor get into an image made from this disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> InstanceMetadata | None:
        """The kept metadata; None when there is none or it cannot be read."""
        try:
            document = orjson.loads(self._path.read_bytes())
            boot_data = BootData.from_user_data(document["userData"])
            return InstanceMetadata(
                InstanceFacts(**document["facts"]),
                boot_data,
                document["mac"],
                document["subnetCIDR"],
                document.get("subnetIPv6CIDR") or "",
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s is unreadable, asking the endpoint again: %s", self._path, type(error).__name__)
            return None

    def save(self, metadata: InstanceMetadata) -> None:
        """Keep it; raises OSError."""
        document = {
            "facts": dataclasses.asdict(metadata.facts),
            "userData": metadata.boot_data.to_user_data(),
            "mac": metadata.mac,
            "subnetCIDR": metadata.subnet_cidr,
            "subnetIPv6CIDR": metadata.subnet_ipv6_cidr,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.new")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(orjson.dumps(document))
        os.replace(temporary, self._path)
