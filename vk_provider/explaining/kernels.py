"""What the kernels say of a connection: the agents are asked for their tables, and for what policies have dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from vk_provider.errors import AgentError
from vk_provider.explain.facts import Path
from vk_provider.explaining.sources import Sources
from vk_provider.pods.record import PodRecord
from vk_provider.wire.inbound import WireError
from vk_provider.wire.tables import PolicyDrops, TablesAnswer

MAX_DROPS = 2
"""Other pods whose agents are asked what their policies have dropped."""


async def ask_kernels(
    sources: Sources, record: PodRecord, address: str, closed: Iterable[PodRecord]
) -> tuple[TablesAnswer | str, dict[str, PolicyDrops]]:
    """The answer of the pod's own agent about `address`, or why there is none; by UID, the drops of the pods whose
    policies let nothing in."""
    others = list(closed)[:MAX_DROPS]
    own, *found = await asyncio.gather(
        _try_agent(sources, record, address), *(_try_agent(sources, other, "") for other in others)
    )
    drops: dict[str, PolicyDrops] = {
        other.uid: answer["drops"]
        for other, answer in zip(others, found, strict=True)
        if not isinstance(answer, str) and "drops" in answer
    }
    return own, drops


def find_closed(paths: Iterable[Path], own: Mapping[str, PodRecord]) -> list[PodRecord]:
    """The provider's pods whose policies do not let the connection in, each once."""
    closed: dict[str, PodRecord] = {}
    for path in paths:
        record = own.get(path.place.address)
        if record is not None and path.ingress is not None and not path.ingress.allowed:
            closed[record.uid] = record
    return list(closed.values())


async def _try_agent(sources: Sources, record: PodRecord, address: str) -> TablesAnswer | str:
    try:
        return await sources.ask_agent(record, address)
    except WireError as error:
        return f"the pod's agent answers with what it may not say ({error})"
    except AgentError as error:
        return str(error)
