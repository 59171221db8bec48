"""The addresses of one instance, as its record and its boot specification hold them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Addresses:
    """primary: the instance's own; pod: its pod's. ipv6_subnet: that the IPv6 ones are in; all three are "" for an
    instance that was launched without IPv6. In files each is a key beside the others of the whole record."""

    primary_ip: str
    pod_ip: str
    ipv6_subnet: str = ""
    primary_ipv6: str = ""
    pod_ipv6: str = ""

    @classmethod
    def take(cls, document: dict[str, Any]) -> Addresses:
        """Those of a file, taken out of it. Raises TypeError when it has none."""
        return cls(**{each.name: document.pop(each.name) for each in fields(cls) if each.name in document})
