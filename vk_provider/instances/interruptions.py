"""What the cloud will do to instances, as it announces it: the pod is told and stopped in time, an idle instance ended.

It is announced by the cloud's notices, or by the instance's own agent, which reads it in the metadata.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from vk_provider.cloud.base import Instance, Notice, NoticeKind
from vk_provider.errors import AgentProtocolError, CapacityError
from vk_provider.instances.demand import PodSide
from vk_provider.instances.instance import Interruption, OwnedInstance, Stage
from vk_provider.instances.metrics import InstanceMetrics
from vk_provider.instances.offerings import OfferingBook
from vk_provider.instances.supply import Supply
from vk_provider.rfc3339 import parse_time
from vk_provider.wire.notices import NoticeMessage

NOTICE_S = 120.0
"""How long before an interruption EC2 announces it."""
LEAD_S = 900.0
"""Of an end that is announced long before (a machine's retirement): when the pod is stopped."""


class Interruptions:
    """`pods` is told of what happens to theirs."""

    def __init__(self, supply: Supply, offerings: OfferingBook, metrics: InstanceMetrics) -> None:
        self._supply, self._offerings, self._metrics = supply, offerings, metrics
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.pods: PodSide

    def take(self, owned: OwnedInstance, notice: Notice) -> None:
        """A notice of the cloud's."""
        if notice.kind is NoticeKind.INTERRUPTION:
            self._metrics.interruptions.inc()
            self._note_taken(owned.described)
            self._interrupt(owned, notice.message, notice.at)
            return
        if notice.kind is NoticeKind.REBALANCE:
            if owned.pod_uid:  # it may never come, and is announced again if it does
                self.pods.on_interruption(owned, notice.message)
            elif owned.pool and owned.stage is Stage.IDLE:
                self._supply.end(owned, "interrupted")
            return
        self._supply.links.ask_fate(owned)

    def take_word(self, owned: OwnedInstance, message: NoticeMessage) -> None:
        """What an agent has read in its instance's metadata. It is believed for its own instance alone: its pod's owner
        may control it, so nothing follows for others. Raises AgentProtocolError."""
        try:
            at = parse_time(message["time"])
        except (ValueError, OverflowError):
            raise AgentProtocolError(f"a notice of {message['time']}, which is no time") from None
        self._interrupt(owned, f"the instance's metadata announces: {message['action']} at {message['time']}", at)

    def _note_taken(self, instance: Instance) -> None:
        """What was taken back is short: the next launches ask for something else first."""
        key = (instance.instance_type, instance.zone, instance.capacity_type)
        offering = self._offerings.find_exact(key)
        if offering is not None:
            self._offerings.shortages.mark(offering, CapacityError("taken back by the cloud", *key))

    def _interrupt(self, owned: OwnedInstance, message: str, at: float | None) -> None:
        """At once, or LEAD_S before a time that is far away (a scheduled event's). Once for each instance: the first
        word counts, but for an earlier end."""
        if owned.rest:
            return  # it is started on another machine
        left_s = NOTICE_S if at is None else max(0.0, at - time.time())
        ends_at = time.monotonic() + left_s
        known = owned.interruption
        if owned.ended or (known is not None and (known.begun or known.at <= ends_at)):
            return
        owned.interruption = Interruption(message, ends_at)
        if owned.pod_uid and known is None:
            self.pods.on_interruption(owned, message)
        begin_in_s = left_s - LEAD_S
        if begin_in_s <= 0:
            self._begin(owned)
            return
        self.forget(owned)
        self._timers[owned.instance_id] = asyncio.get_running_loop().call_later(begin_in_s, self._begin, owned)

    def _begin(self, owned: OwnedInstance) -> None:
        self.forget(owned)
        interruption = owned.interruption
        if interruption is None or owned.ended:
            return
        owned.interruption = replace(interruption, begun=True)
        if owned.pod_uid:
            self.pods.on_fate(owned)
        elif owned.stage is Stage.IDLE:
            self._supply.end(owned, "interrupted")

    def lift(self, owned: OwnedInstance) -> None:
        """What was announced was for a host that it leaves."""
        owned.interruption = None

    def forget(self, owned: OwnedInstance) -> None:
        """The instance ends: nothing is due for it any more."""
        timer = self._timers.pop(owned.instance_id, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
