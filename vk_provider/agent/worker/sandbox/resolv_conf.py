"""The instance's own resolv.conf, from which the pod's is made."""

from __future__ import annotations

import os
from pathlib import Path

from vk_provider.podmodel.errors import ResolvConfError

RESOLV_CONF = Path("/etc/resolv.conf")
MAX_BYTES = 10 * 2**20
"""From this size on a kubelet refuses the file."""


def read_resolv_conf(path: Path = RESOLV_CONF) -> str:
    """The file as text (blocking). Raises ResolvConfError: without it no pod starts, whatever its dnsPolicy.

    Source: getDNSConfig in pkg/kubelet/network/dns/dns.go.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES)
    except OSError as error:
        raise ResolvConfError(f"open {path}: {os.strerror(error.errno or 0).lower()}") from None
    if len(content) == MAX_BYTES:
        raise ResolvConfError("Encountered error while parsing resolv conf file. Error: the read limit is reached")
    return content.decode(errors="replace")
