"""All pages of a listing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import Cloud, Instance, InstancePage
from vk_provider.errors import CloudError, CloudThrottledError

AGAIN_S, AGAIN_MAX_S = 0.5, 5.0
PATIENCE_S = 30.0
"""For so long a page is asked for again."""


@dataclass(frozen=True, slots=True)
class Listing:
    """instances, builders: see InstancePage; each once."""

    instances: list[Instance]
    builders: list[Instance]


async def list_owned(cloud: Cloud) -> list[Instance]:
    """See list_all, without builders."""
    return (await list_all(cloud)).instances


async def list_all(cloud: Cloud) -> Listing:
    """All that is of our owner. Raises CloudError when one page fails: a part of a listing would make instances missing
    that are not."""
    found: dict[str, Instance] = {}
    builders: dict[str, Instance] = {}
    page = ""
    while True:
        answer = await (_ask_on(cloud, page) if page else cloud.list_page())
        for instance in answer.instances:
            found[instance.instance_id] = instance
        builders |= {builder.instance_id: builder for builder in answer.builders}
        page = answer.next_page
        if not page:
            return Listing(list(found.values()), list(builders.values()))


async def _ask_on(cloud: Cloud, page: str) -> InstancePage:
    """A page after the first, which is asked for again where it fails: a listing of many pages would be begun anew, and
    while one call of two is throttled it would hardly ever come to its end. Raises CloudError."""
    until, backoff = time.monotonic() + PATIENCE_S, Backoff(AGAIN_S, AGAIN_MAX_S)
    while True:
        try:
            return await cloud.list_page(page)
        except CloudError as error:
            asked_s = error.retry_after_s if isinstance(error, CloudThrottledError) else 0.0
            delay_s = max(backoff.next_delay_s(), asked_s)
            if not error.retryable or time.monotonic() + delay_s > until:
                raise
        await asyncio.sleep(delay_s)
