"""What the cloud offers and what it runs of ours, before the cluster is read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import Cloud, Instance, InstanceRuntime, Offering
from vk_provider.errors import BadStartError, CloudError
from vk_provider.node.heldleases import HeldLeases

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inventory:
    """The cloud's answers at the start. instances: those with our owner tag, of any state."""

    offerings: Sequence[Offering]
    runtime: InstanceRuntime
    instances: list[Instance]


async def take_inventory(cloud: Cloud, leases: HeldLeases) -> Inventory:
    """Waits until the cloud answers. Raises BadStartError when it refuses.

    A later outage makes no Node NotReady: the controller manager would evict the running pods, while only new pods
    need the cloud (event FailedLaunch). For the same reason the Leases of existing Nodes are held meanwhile.
    """
    backoff = Backoff(0.5, 15.0)
    while True:
        try:
            offerings = await cloud.describe_offerings()
            runtime = await cloud.describe_runtime()
            inventory = Inventory(offerings, runtime, await cloud.list_owned())
            await leases.release()
            return inventory
        except CloudError as error:
            if not error.retryable:
                raise BadStartError(f"the {cloud.name} cloud refuses: {error}") from None
            log.warning("the cloud does not answer, waiting for it before the start: %s", error)
        leases.hold()
        await asyncio.sleep(backoff.next_delay_s())
