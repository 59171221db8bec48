"""One task per instance: dial until the agent answers, run the session, check the instance's state when it breaks.

A broken session alone does not make a pod lost: the agent may restart, the network may fail for a moment. Only the
cloud can report that the instance is gone; while the cloud does not answer, the pod stays as it is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from vk_provider.agentclient.base import AgentConnector
from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import Instance
from vk_provider.errors import (
    AgentError,
    AgentIdentityError,
    AgentProtocolError,
    AgentUnreachableError,
    AgentVersionError,
    CloudError,
)
from vk_provider.pods.record import PodRecord
from vk_provider.wire.session import UpMessage

log = logging.getLogger(__name__)

DIAL_FIRST_S = 0.01
DIAL_MAX_S = 1.0
FATE_INTERVAL_S = 5.0
"""How often the cloud is asked about an instance whose agent does not answer."""
UNKNOWN_GRACE_S = 30.0
"""An eventually consistent cloud may not list a new instance yet."""
STEADY_S = 5.0
"""A session that lasted for so long resets the back-off of dialing."""
FORGIVEN_S = 300.0
"""A session that lasted for so long without a violation resets the back-off of violations."""
RENEWAL_RETRY_S = 60.0

Receive = Callable[[PodRecord, UpMessage], None]
Describe = Callable[[str], Awaitable[Instance | None]]


class InstanceConnection:
    """Runs one record's connection; returns when the instance is lost or did not boot."""

    def __init__(
        self,
        connector: AgentConnector,
        describe: Describe,
        wake: Callable[[str], None],
        receive: Receive,
        boot_timeout_s: float,
        on_connected: Callable[[PodRecord], None],
        on_disconnected: Callable[[PodRecord], None],
        on_violation: Callable[[PodRecord, str], None],
    ) -> None:
        self._connector = connector
        self._describe = describe
        self._wake = wake
        self._receive = receive
        self._boot_timeout_s = boot_timeout_s
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_violation = on_violation

    async def run(self, record: PodRecord) -> None:
        backoff = Backoff(DIAL_FIRST_S, DIAL_MAX_S, 1.5)
        started = time.monotonic()
        fate_due = started + FATE_INTERVAL_S
        logged = ""
        while record.instance is not None and not record.instance.state.is_terminated:
            if time.monotonic() >= record.redial_at:
                logged, is_sound = await self._try(record, logged, backoff)
                fate_due = 0.0 if is_sound else fate_due
            if time.monotonic() >= fate_due or not record.instance.primary_ip:
                fate_due = time.monotonic() + FATE_INTERVAL_S
                if await self._is_lost(record):
                    self._wake(record.uid)
                    return
            if not may_have_run(record) and time.monotonic() - started > self._boot_timeout_s:
                record.boot_failed = f"the agent did not answer within {self._boot_timeout_s:.0f} s"
                self._wake(record.uid)
                return
            # The back-off after a violation is in the record: a new task continues it.
            redial_s = min(FATE_INTERVAL_S, record.redial_at - time.monotonic())
            await asyncio.sleep(max(backoff.next_delay_s(), redial_s))

    async def _try(self, record: PodRecord, logged: str, backoff: Backoff) -> tuple[str, bool]:
        """One session, if the agent answers. `logged`: the error that was logged last.

        Returns the error logged last, and whether there was a session without a violation."""
        dialed = time.monotonic()
        try:
            await self._hold(record)
            if time.monotonic() - dialed >= STEADY_S:
                backoff.reset()
            return "", True
        except AgentUnreachableError:
            pass
        except AgentProtocolError as error:
            self._note_violation(record, str(error), dialed)
        except AgentError as error:
            if str(error) != logged:
                logged = str(error)
                log.warning("pod %s: %s", record.key, error)
            if isinstance(error, AgentIdentityError | AgentVersionError):
                await asyncio.sleep(DIAL_MAX_S)
        return logged, False

    def _note_violation(self, record: PodRecord, message: str, dialed: float) -> None:
        """End this session alone: record an event on the pod, and delay the next session."""
        if time.monotonic() - dialed >= FORGIVEN_S:
            record.violation_backoff.reset()
        record.redial_at = time.monotonic() + record.violation_backoff.next_delay_s()
        log.warning("pod %s: %s", record.key, message)
        self._on_violation(record, message)

    async def _hold(self, record: PodRecord) -> None:
        instance = record.instance
        if instance is None or not instance.primary_ip:
            return
        session = await self._connector.open_session(instance, fresh=record.fresh and not record.ever_connected)
        renewal = asyncio.create_task(self._renew(instance), name=f"renew {instance.instance_id}")
        record.session = session
        record.sent_fingerprint = record.sent_references = record.sent_services = None
        if not record.ever_connected:
            record.ever_connected = True
            self._on_connected(record)
        self._wake(record.uid)
        try:
            await session.run(lambda message: self._take(record, message))
        finally:
            record.session = None
            self._on_disconnected(record)
            renewal.cancel()
        log.info("pod %s: session with %s ended", record.key, instance.instance_id)

    def _take(self, record: PodRecord, message: UpMessage) -> None:
        try:
            self._receive(record, message)
        except AgentError:
            raise
        except Exception as error:
            # An unexpected fault caused by one agent's message ends the session of that agent only.
            log.exception("pod %s: a message of its agent could not be handled", record.key)
            raise AgentProtocolError(f"a {message['type']} message could not be handled: {error!r}") from error

    async def _renew(self, instance: Instance) -> None:
        while True:
            await asyncio.sleep(self._connector.renewal_delay_s(instance))
            try:
                await self._connector.renew(instance)
            except AgentError as error:
                log.warning("certificate of %s not renewed: %s", instance.instance_id, error)
                await asyncio.sleep(RENEWAL_RETRY_S)

    async def _is_lost(self, record: PodRecord) -> bool:
        known = record.instance
        assert known is not None
        try:
            found = await self._describe(known.instance_id)
        except CloudError as error:
            log.warning("state of instance %s is not known: %s", known.instance_id, error)
            return False
        if found is None:
            if time.time() - known.launch_time < UNKNOWN_GRACE_S:
                return False
            _note_gone(record, f"the cloud does not know instance {known.instance_id} any more")
            return True
        record.instance = found
        if found.state.has_stopped:  # while it is shutting down, the pod may still run
            reason = f": {found.state_reason}" if found.state_reason else ""
            _note_gone(record, f"instance {found.instance_id} is {found.state}{reason}")
            return True
        return False


def may_have_run(record: PodRecord) -> bool:
    """Whether the instance has booted: its agent answered, or it was adopted with a pod that had started."""
    return record.ever_connected or not record.fresh


def _note_gone(record: PodRecord, message: str) -> None:
    """Record that the instance is gone, either with the pod or before the pod could start."""
    if may_have_run(record):
        record.lost = message
    else:
        record.boot_failed = message
