"""Blocks the pod's access to the metadata endpoint with its boot data and roles.

The endpoint is closed for the whole instance before any pod runs: in the forward path for a pod with its own network
namespace, in the output path for a hostNetwork pod, which shares the instance's. The agent has read what it needs by
then, and keeps it for the agent after it (agent.metadata.KeptMetadata): both are gone after a reboot. What this cannot
stop is a hostNetwork pod that may change the rule or write raw frames (NET_ADMIN, NET_RAW).

On an image that says so (`--watch-interruptions`), packets of the agent's own control group pass: it then looks for
interruption notices, see agent.interruption. A probe of the pod that names the endpoint as its host is sent by the
agent, too, and is answered 401: it is a GET, and a session of IMDSv2, which launched instances require, begins with a
PUT.
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

from vk_provider.agent.network import METADATA_ADDRESS, NetworkError
from vk_provider.aiokit.libnftables import NftLibrary
from vk_provider.aiokit.nft import NftError, NftTable

log = logging.getLogger(__name__)

ALLOW_METADATA_ANNOTATION = "vk-provider/allow-instance-metadata"
"""Pod annotation: "true" lets the pod reach the metadata endpoint (as far as the cloud's hop limit does)."""

_TABLE = "vk_metadata_guard"
_REMOVE = f"add table ip {_TABLE}\ndelete table ip {_TABLE}\n"
_CGROUP_ROOT = Path("/sys/fs/cgroup")


def build_rules(own_cgroup: str = "") -> str:
    """`nft -f` input that closes the endpoint, but for the processes of a cgroup (v2): its path without the first "/",
    "" for none."""
    exempt = ""
    if own_cgroup:
        level = own_cgroup.count("/") + 1
        exempt = f'    ip daddr {METADATA_ADDRESS} socket cgroupv2 level {level} "{own_cgroup}" accept\n'
    return f"""{_REMOVE}table ip {_TABLE} {{
  chain forward {{
    type filter hook forward priority -10;
    ip daddr {METADATA_ADDRESS} drop
  }}
  chain output {{
    type filter hook output priority -10;
{exempt}    ip daddr {METADATA_ADDRESS} drop
  }}
}}
"""


def find_own_cgroup(membership: str, root: Path = _CGROUP_ROOT) -> str:
    """The agent's cgroup as `build_rules` takes it. membership: /proc/self/cgroup. "" where the machine has no unified
    hierarchy, and for a group that is not the agent's alone: the root, or one that nft cannot name."""
    if not (root / "cgroup.controllers").exists():
        return ""
    path = next((line.removeprefix("0::/") for line in membership.splitlines() if line.startswith("0::/")), "")
    is_own = _CGROUP.fullmatch(path) and path.endswith(".service") and ".." not in path.split("/")
    return path if is_own else ""


_CGROUP = re.compile(r"[A-Za-z0-9_.@:-]+(/[A-Za-z0-9_.@:-]+)*")


class MetadataGuard:
    """Root task that keeps the rule applied. `marker`: file that exists while the pod is allowed access. own_cgroup:
    see build_rules. library: see NftTable."""

    def __init__(self, marker: Path, own_cgroup: str = "", library: NftLibrary | None = None) -> None:
        self._marker = marker
        self._own_cgroup = own_cgroup
        self._library = library
        self._allowed = marker.exists()
        self._changed = asyncio.Event()
        self._applied = asyncio.Event()

    @property
    def admits_agent(self) -> bool:
        """Whether the agent itself reaches the endpoint now."""
        return self._applied.is_set() and (self._allowed or bool(self._own_cgroup))

    def set_allowed(self, allowed: bool) -> None:
        """Set whether the pod is allowed access."""
        if allowed == self._allowed:
            return
        self._allowed = allowed
        self._changed.set()
        try:
            if allowed:
                self._marker.touch()
            else:
                self._marker.unlink(missing_ok=True)
        except OSError as error:  # a full disk; the provider sends the pod again to the next agent
            log.warning("metadata guard: %s cannot be changed: %s", self._marker, error.strerror)

    async def wait_applied(self) -> None:
        """Return when the rule was applied for the first time: only then may a pod start."""
        await self._applied.wait()

    async def run(self) -> None:
        """Apply the rule, and again when it is to change. Raises NetworkError when the instance has no nft."""
        while True:
            self._changed.clear()
            if self._allowed:
                await allow_metadata(self._library)
            else:
                await deny_metadata(self._own_cgroup, self._library)
            self._applied.set()
            await self._changed.wait()


async def deny_metadata(own_cgroup: str = "", library: NftLibrary | None = None) -> None:
    """Drop all packets from the instance to the endpoint, see build_rules. Idempotent. Raises NetworkError."""
    await _apply(build_rules(own_cgroup), library)


async def allow_metadata(library: NftLibrary | None = None) -> None:
    """Remove the rule. Idempotent. Raises NetworkError."""
    await _apply(_REMOVE, library)


async def _apply(commands: str, library: NftLibrary | None) -> None:
    try:
        await NftTable(_TABLE, library=library).apply(commands)
    except NftError as error:
        raise NetworkError(str(error)) from None
