"""Reads the instance's metadata endpoint (IMDSv2 as EC2 serves it): identity, addresses, boot data.

It is read once a boot: agent.metadata_guard closes the endpoint afterwards, for the agent as well.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import aiohttp
import orjson

from vk_provider.agent.facts import InstanceFacts
from vk_provider.aiokit.backoff import Backoff
from vk_provider.errors import AgentError
from vk_provider.wire.bootdata import AWAIT_IPV6, BootData

log = logging.getLogger(__name__)

TOKEN_TTL_S = 300
REQUEST_TIMEOUT_S = 2.0
ASSIGNMENT_POLL_S = 0.25
"""How often is looked for the pod's address where it is assigned after the launch: a pod waits for it. Seven requests
each are far below the 1,024 packets a second that EC2 lets through to its link-local services."""


class MetadataError(AgentError):
    """The metadata endpoint does not answer, or not with what an instance needs."""


class NoSuchMetadataError(MetadataError):
    """The endpoint answers, and has no such document."""


@dataclass(frozen=True, slots=True)
class InstanceMetadata:
    """Everything the agent takes from the endpoint. `mac`: lower case with colons; `subnet_ipv6_cidr`: "" without
    IPv6. is_spot: the cloud may take the instance back."""

    facts: InstanceFacts
    boot_data: BootData
    mac: str
    subnet_cidr: str
    subnet_ipv6_cidr: str = ""
    is_spot: bool = False


class NoPodAddressError(MetadataError):
    """All is there but an address for the pod, which may be assigned after the launch."""


class MetadataSource(Protocol):
    """A metadata endpoint."""

    async def get(self, path: str) -> str:
        """Text at /latest/<path>; raises MetadataError, NoSuchMetadataError where there is none."""


class MetadataClient:
    """MetadataSource over HTTP with a session token, which is renewed when the endpoint refuses it. Use as an async
    context manager."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._token = ""
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> MetadataClient:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        self._http = aiohttp.ClientSession(timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def get(self, path: str) -> str:
        known = self._token
        try:
            return await self._get(path, known or await self._renew(known))
        except _TokenRefusedError as error:
            if not known:
                raise MetadataError(str(error)) from None
        try:
            return await self._get(path, await self._renew(known))
        except _TokenRefusedError as error:
            raise MetadataError(str(error)) from None

    async def _get(self, path: str, token: str) -> str:
        return await self._request("GET", path, {"X-aws-ec2-metadata-token": token})

    async def _renew(self, refused: str) -> str:
        """A token other than the refused one; those that ask at the same time share it."""
        async with self._renewing:
            if self._token == refused:
                self._token = ""
                headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_S)}
                self._token = await self._request("PUT", "api/token", headers)
            return self._token

    async def _request(self, method: str, path: str, headers: dict[str, str]) -> str:
        url = f"{self._url}/latest/{path}"
        try:
            async with self._http.request(method, url, headers=headers) as response:
                if response.status != HTTPStatus.OK:
                    kind = _ERRORS.get(response.status, MetadataError)
                    raise kind(f"metadata: {method} {path} answered {response.status}")
                return await response.text()
        except UnicodeDecodeError:
            raise MetadataError(f"metadata: {path} is not text") from None
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise MetadataError(f"metadata endpoint {self._url}: {error or type(error).__name__}") from None


class _TokenRefusedError(MetadataError):
    """The token has expired, or the endpoint has forgotten it."""


_ERRORS: dict[int, type[MetadataError]] = {
    HTTPStatus.NOT_FOUND: NoSuchMetadataError,
    HTTPStatus.UNAUTHORIZED: _TokenRefusedError,
}


async def fetch_metadata(source: MetadataSource, hostname: str) -> InstanceMetadata:
    """Read everything once. Raises MetadataError, NoPodAddressError while the pod's address is not assigned yet."""
    user_data = await source.get("user-data")
    instance_id, mac, primary_ip, instance_type, zone = await asyncio.gather(
        *(source.get(f"meta-data/{key}") for key in _KEYS)
    )
    mac = mac.strip().strip("/").lower()
    interface = f"meta-data/network/interfaces/macs/{mac}"
    addresses, prefixes, subnet_cidr, primary_ipv6, life_cycle = await asyncio.gather(
        source.get(f"{interface}/local-ipv4s"),
        _get_optional(source, f"{interface}/ipv4-prefix"),
        source.get(f"{interface}/subnet-ipv4-cidr-block"),
        _get_optional(source, "meta-data/ipv6"),
        _get_optional(source, "meta-data/instance-life-cycle"),
    )
    pod_ip = _find_pod_address(primary_ip.strip(), addresses.split(), prefixes.split())
    pod_ipv6 = subnet_ipv6_cidr = ""
    if primary_ipv6:
        primary_ipv6, pod_ipv6, subnet_ipv6_cidr = await _fetch_ipv6(source, interface, primary_ipv6)
    boot_data = _parse_boot_data(user_data)
    if not pod_ipv6 and boot_data.extra.get(AWAIT_IPV6) is True:
        raise NoPodAddressError("metadata: the instance has no secondary IPv6 address for its pod")
    facts = InstanceFacts(
        instance_id=instance_id.strip(),
        primary_ip=primary_ip.strip(),
        pod_ip=pod_ip,
        instance_type=instance_type.strip(),
        zone=zone.strip(),
        hostname=hostname,
        primary_ipv6=primary_ipv6,
        pod_ipv6=pod_ipv6,
    )
    return InstanceMetadata(facts, boot_data, mac, subnet_cidr.strip(), subnet_ipv6_cidr, life_cycle == "spot")


def _find_pod_address(primary_ip: str, addresses: Sequence[str], prefixes: Sequence[str]) -> str:
    """The first secondary address; of an instance that has a prefix delegated instead, the first one of that."""
    secondary = [address for address in addresses if address != primary_ip]
    if secondary:
        return secondary[0]
    try:
        delegated = [ipaddress.IPv4Network(prefix)[0] for prefix in prefixes]
    except ValueError as error:
        raise MetadataError(f"metadata: {error}") from None
    if not delegated:
        raise NoPodAddressError("metadata: the instance has no secondary address for its pod")
    return str(delegated[0])


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
    assignment = Backoff(first_s=0.01, max_s=ASSIGNMENT_POLL_S, factor=1.5)
    logged = ""
    async with MetadataClient(url) as source:
        while True:
            try:
                return await fetch_metadata(source, hostname)
            except MetadataError as error:
                is_open = isinstance(error, NoPodAddressError)
                if str(error) != logged:
                    logged = str(error)
                    log.warning("waiting for the metadata endpoint: %s", error)
            if reopen is not None and not is_open:
                await reopen()
                reopen = None
            await asyncio.sleep((assignment if is_open else backoff).next_delay_s())


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
                document.get("isSpot") is True,
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
            "isSpot": metadata.is_spot,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.new")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(orjson.dumps(document))
        os.replace(temporary, self._path)
