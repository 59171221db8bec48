"""What a provider that was killed has left on the machine: the nft tables of the Nodes of one cloud."""

from __future__ import annotations

from vk_provider.cloud.local.command import CommandError, run_command
from vk_provider.errors import CloudError
from vk_provider.serviceproxy.frame import NODE_TABLE_PREFIX


def remove(cloud: str) -> None:
    """Delete the tables of the cloud's Nodes in this network namespace (blocking, idempotent). Raises CloudError."""
    prefix = f"{NODE_TABLE_PREFIX}{cloud}_"
    try:
        names = [line.split()[-1] for line in run_command(["nft", "list", "tables", "inet"]).splitlines() if line]
        for name in names:
            if name.startswith(prefix):
                run_command(["nft", "delete", "table", "inet", name])
    except CommandError as error:
        raise CloudError(f"local cloud: {error}") from None
