"""IP addresses and networks as the API writes them. Pure."""

from __future__ import annotations

import ipaddress
import re
from enum import IntEnum
from functools import lru_cache

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_CANONICAL4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Family(IntEnum):
    """An IP family, by its version."""

    IPV4 = 4
    IPV6 = 6

    @property
    def api_name(self) -> str:
        """As in spec.ipFamilies and in the addressType of an EndpointSlice."""
        return f"IPv{self.value}"


def family_of(address: str) -> Family:
    """Of an address as parse_address writes it."""
    return Family.IPV6 if ":" in address else Family.IPV4


def parse_address(written: object) -> tuple[Family, str] | None:
    """Family and canonical text of an address; None when it is none.

    As Go's ParseIPSloppy and IP.String: leading zeros are decimal, an IPv4-mapped address is an IPv4 address, and
    there are no zones.
    """
    if isinstance(written, str) and _CANONICAL4.fullmatch(written):
        return Family.IPV4, written  # nearly all of them, in a tenth of the time: a cache of them is large for nothing
    return _parse_other(written)


@lru_cache(maxsize=16384)
def _parse_other(written: object) -> tuple[Family, str] | None:
    parsed = _parse(written)
    return None if parsed is None else (Family(parsed.version), str(parsed))


@lru_cache(maxsize=4096)
def parse_network(written: object) -> Network | None:
    """A network in CIDR notation, host bits cleared and padding ignored (as Go's ParseCIDRSloppy); None when it is
    none."""
    if not isinstance(written, str):
        return None
    base, slash, length = written.strip().partition("/")
    address = _parse(base)
    if address is None or not (slash and length.isascii() and length.isdigit()):
        return None
    if address.version == 4 and ":" in base or int(length) > address.max_prefixlen:
        return None
    return ipaddress.ip_network(f"{address}/{int(length)}", strict=False)


def _parse(written: object) -> Address | None:
    if not isinstance(written, str) or "%" in written:
        return None
    if ":" not in written:
        written = ".".join(part.lstrip("0") or "0" if part else "" for part in written.split("."))
    try:
        parsed = ipaddress.ip_address(written)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if parsed.version == 6 else None
    return mapped or parsed
