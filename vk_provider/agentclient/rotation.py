"""Rotates the master secret of the launches; instances that boot with the last few are still accepted."""

from __future__ import annotations

import asyncio
import logging
import time

from vk_provider.agentclient.identity_store import IdentityStore, ProviderIdentity
from vk_provider.errors import KubeApiError

log = logging.getLogger(__name__)

CHECK_S = 3600.0
RETRY_S = 60.0


async def run_rotation(identity: ProviderIdentity, store: IdentityStore, ttl_s: float) -> None:
    """Until cancelled. A new master is saved before the first launch with it: no instance may be unknown after a crash.

    ttl_s: age at which the newest master is replaced
    """
    while True:
        delay_s = CHECK_S
        rotated = identity.rotated(time.time(), ttl_s)
        if rotated is not None:
            try:
                await store.save(rotated)
                identity.take_over(rotated)
                log.info("master secret of the launches rotated")
            except (KubeApiError, OSError) as error:
                log.warning("master secret of the launches not rotated: %s", error)
                delay_s = RETRY_S
        await asyncio.sleep(delay_s)
