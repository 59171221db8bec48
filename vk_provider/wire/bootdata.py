"""Boot parameters of an instance, in its user data.

User data is readable by every principal that may describe the instance in the cloud, so it holds no pod data and no
Kubernetes credential: only the CA to trust and the boot secret of this launch, which proves nothing but the launch
during the identity exchange.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import orjson

AGENT_PORT = 10251
"""TCP port of the agent's HTTPS server on the instance's primary address."""

AWAIT_IPV6 = "ipv6"
"""In BootData.extra, true: the instance gets IPv6 addresses, which the agent waits for."""

_HEX = re.compile("([0-9a-fA-F]{2})+")


@dataclass(frozen=True, slots=True)
class BootData:
    """User data of an instance.

    versions:      wire versions the provider speaks
    ca_pem:        PEM of the provider's CA: signs the provider's client certificate and the agents' certificates
    boot_secret:   hex string; key of the HMAC that proves the agent's CSR
    agent_port:    TCP port that the agent listens on
    registries:    {host[:port]: {"server": url, "plain_http": bool}} extra registry hosts for containerd (certs.d)
    image_peers:   the runtime asks the agent for blobs of images before a registry (wire.blobs)
    extra:         cloud specific hints, unknown keys are ignored by the agent
    """

    ca_pem: str
    boot_secret: str
    versions: tuple[int, ...] = (1,)
    agent_port: int = AGENT_PORT
    registries: dict[str, dict[str, Any]] = field(default_factory=dict)
    image_peers: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def to_user_data(self) -> str:
        """Return the user data text: one JSON object."""
        return orjson.dumps(
            {
                "apiVersion": "vk-provider/v1",
                "kind": "BootData",
                "versions": list(self.versions),
                "caPEM": self.ca_pem,
                "bootSecret": self.boot_secret,
                "agentPort": self.agent_port,
                "registries": self.registries,
                "imagePeers": self.image_peers,
                "extra": self.extra,
            },
            option=orjson.OPT_SORT_KEYS,
        ).decode()

    @classmethod
    def from_user_data(cls, text: str) -> BootData:
        """Parse user data; raises ValueError with the reason."""
        document = json.loads(text)
        if not isinstance(document, dict) or document.get("kind") != "BootData":
            raise ValueError("user data is not a vk-provider BootData document")
        try:
            boot_data = cls(
                ca_pem=document["caPEM"],
                boot_secret=document["bootSecret"],
                versions=tuple(document["versions"]),
                agent_port=int(document["agentPort"]),
                registries=document.get("registries") or {},
                image_peers=document.get("imagePeers") is True,
                extra=document.get("extra") or {},
            )
        except KeyError as missing:
            raise ValueError(f"boot data lacks {missing}") from None
        except TypeError:
            raise ValueError("boot data is malformed") from None
        if not isinstance(boot_data.boot_secret, str) or not _HEX.fullmatch(boot_data.boot_secret):
            raise ValueError("boot data is malformed: bootSecret is not a hex string")
        return boot_data
