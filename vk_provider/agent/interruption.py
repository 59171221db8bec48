"""Watches the instance's metadata for the announcement that the cloud takes a spot instance back.

EC2 says it two minutes before, in meta-data/spot/instance-action, and asks to look every five seconds ("Spot Instance
interruption notices", EC2 user guide); there is nothing to wait on. It is looked for only while the agent may reach the
endpoint: see agent.metadata_guard.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from vk_provider.agent.metadata import MetadataError, MetadataSource, NoSuchMetadataError
from vk_provider.wire.values import Timestamp

log = logging.getLogger(__name__)

POLL_S = 5.0
ACTION_PATH = "meta-data/spot/instance-action"


class SpotAction(msgspec.Struct, frozen=True):
    """The document: {"action": "terminate", "time": "2017-09-18T08:22:00Z"}."""

    action: Literal["terminate", "stop", "hibernate"]
    time: Timestamp


class NoticeSink(Protocol):
    """The session's outbox."""

    def send_notice(self, action: SpotAction) -> None: ...


class InterruptionWatch:
    """Root task. is_reachable: whether the endpoint is open for the agent just now."""

    def __init__(self, source: MetadataSource, is_reachable: Callable[[], bool], sink: NoticeSink) -> None:
        self._source = source
        self._is_reachable = is_reachable
        self._sink = sink
        self._told: SpotAction | None = None
        self._logged = ""

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            if self._is_reachable():
                await self.look()
            await asyncio.sleep(POLL_S)

    async def look(self) -> None:
        """Ask once; tell what is new."""
        try:
            found = msgspec.json.decode(await self._source.get(ACTION_PATH), type=SpotAction)
        except NoSuchMetadataError:
            return
        except (MetadataError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
            if str(error) != self._logged:
                self._logged = str(error)
                log.warning("interruption notice: %s", error)
            return
        if found != self._told:
            self._told = found
            log.warning("the cloud announces: %s of this instance at %s", found.action, found.time)
            self._sink.send_notice(found)
