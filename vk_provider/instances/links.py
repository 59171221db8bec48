"""The sessions to agents, one task for each instance: dial until the agent answers, run the session, check the
instance's state when it breaks.

A broken session alone does not make an instance lost: the agent may restart, the network may fail for a moment. Only
the cloud can report that the instance is gone; while the cloud does not answer, everything stays as it is. While a
session is open, its agent is believed rather than the cloud.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Protocol

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
from vk_provider.instances.instance import Link, OwnedInstance, describe_end
from vk_provider.wire.session import UpMessage

log = logging.getLogger(__name__)

DIAL_FIRST_S = 0.01
DIAL_MAX_S = 1.0
DIAL_FACTOR, BOOT_DIAL_FACTOR = 1.5, 1.15
"""Until the first session the delays grow slowly: what is waited after the agent has begun to listen is a small part of
the boot, and a dial that is refused costs little."""
FATE_INTERVAL_S = 5.0
"""How often the cloud is asked about an instance whose agent does not answer."""
STEADY_S = 5.0
"""A session that lasted for so long resets the back-off of dialing."""
FORGIVEN_S = 300.0
"""A session that lasted for so long without a violation resets the back-off of violations."""
RENEWAL_RETRY_S = 60.0

Look = Callable[[str], Awaitable[Instance | None]]
"""See table.InstanceTable.look."""


class LinkListener(Protocol):
    """See demand.PodSide; here for every instance, whether it has a pod or not."""

    def on_connected(self, owned: OwnedInstance) -> None: ...

    def on_message(self, owned: OwnedInstance, message: UpMessage) -> None: ...

    def on_disconnected(self, owned: OwnedInstance) -> None: ...

    def on_violation(self, owned: OwnedInstance, message: str) -> None: ...

    def on_begun_anew(self, owned: OwnedInstance) -> None:
        """It is stopped, and starts on another host."""

    def on_fate(self, owned: OwnedInstance) -> None: ...


class InstanceLinks:
    """Holds the links of all instances; a link ends when its instance is lost, did not boot, or is closed."""

    def __init__(self, connector: AgentConnector, look: Look, listener: LinkListener, boot_timeout_s: float) -> None:
        self._connector = connector
        self._look = look
        self._listener = listener
        self._boot_timeout_s = boot_timeout_s

    def open(self, owned: OwnedInstance) -> None:
        """Start to dial unless that is under way."""
        if owned.link.task is None:
            owned.link.task = asyncio.create_task(self._run(owned), name=f"session {owned.instance_id}")
            owned.link.task.add_done_callback(partial(self._done, owned))

    def close(self, owned: OwnedInstance) -> None:
        """Dial no more."""
        link = owned.link
        if link.task is not None:
            link.task.cancel()
            link.task, link.previous = None, link.task

    def ask_fate(self, owned: OwnedInstance) -> None:
        """The cloud is asked for it as soon as its agent is silent."""
        owned.link.fate_due = 0.0

    def begin_anew(self, owned: OwnedInstance) -> None:
        """The instance is stopped, with nothing of a pod on it: its agent's next session is the first of a boot."""
        self.close(owned)
        owned.link = Link(previous=owned.link.previous, allowance=owned.link.allowance)
        self._listener.on_begun_anew(owned)

    async def close_all(self, instances: Iterable[OwnedInstance]) -> None:
        """At the stop of the process."""
        both = [task for owned in instances for task in (owned.link.task, owned.link.previous)]
        tasks = [task for task in both if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, owned: OwnedInstance, task: asyncio.Task[None]) -> None:
        if owned.link.task is task:
            owned.link.task = None
        if owned.link.previous is task:
            owned.link.previous = None
        if task.cancelled():
            return
        if task.exception() is not None:
            log.error("instance %s: its link failed", owned.instance_id, exc_info=task.exception())
            owned.link.redial_at = time.monotonic() + owned.link.violation_backoff.next_delay_s()
        self._listener.on_fate(owned)

    async def _run(self, owned: OwnedInstance) -> None:
        link, backoff = owned.link, Backoff(DIAL_FIRST_S, DIAL_MAX_S, DIAL_FACTOR)
        if link.previous is not None:
            await asyncio.wait({link.previous})  # its session ends before another begins
        started = time.monotonic()
        link.fate_due = started + FATE_INTERVAL_S
        logged, question = "", _FateQuestion(self._look)
        try:
            while not owned.described.state.is_terminated:
                if time.monotonic() >= link.redial_at:
                    is_booting = bool(owned.described.primary_ip) and not link.ever_connected
                    backoff.factor = BOOT_DIAL_FACTOR if is_booting else DIAL_FACTOR
                    logged, is_sound = await self._try(owned, logged, backoff)
                    link.fate_due = 0.0 if is_sound else link.fate_due
                if time.monotonic() >= link.fate_due or not owned.described.primary_ip:
                    link.fate_due = time.monotonic() + FATE_INTERVAL_S
                    question.ask(owned)
                if gone := question.answer(owned):
                    _note_gone(owned, gone)
                    return
                if not owned.has_booted and time.monotonic() - started > self._boot_timeout_s:
                    owned.boot_failed = f"the agent did not answer within {self._boot_timeout_s:.0f} s"
                    return
                # The back-off after a violation is the link's: a new task continues it.
                redial_s = min(FATE_INTERVAL_S, link.redial_at - time.monotonic())
                await question.wait(max(backoff.next_delay_s(), redial_s))
        finally:
            await question.close()
        _note_gone(owned, describe_end(owned.described))

    async def _try(self, owned: OwnedInstance, logged: str, backoff: Backoff) -> tuple[str, bool]:
        """One session, if the agent answers. `logged`: the error that was logged last.

        Returns the error logged last, and whether there was a session without a violation."""
        dialed = time.monotonic()
        try:
            await self._hold(owned)
            if time.monotonic() - dialed >= STEADY_S:
                backoff.reset()
            return "", True
        except AgentUnreachableError:
            pass
        except AgentProtocolError as error:
            self._note_violation(owned, str(error), dialed)
        except AgentError as error:
            if str(error) != logged:
                logged = str(error)
                log.warning("instance %s: %s", owned.instance_id, error)
            if isinstance(error, AgentIdentityError | AgentVersionError):
                await asyncio.sleep(DIAL_MAX_S)
        return logged, False

    def _note_violation(self, owned: OwnedInstance, message: str, dialed: float) -> None:
        """End this session alone, and delay the next one."""
        link = owned.link
        if time.monotonic() - dialed >= FORGIVEN_S:
            link.violation_backoff.reset()
        link.redial_at = max(link.redial_at, time.monotonic() + link.violation_backoff.next_delay_s())
        log.warning("instance %s: %s", owned.instance_id, message)
        self._listener.on_violation(owned, message)

    async def _hold(self, owned: OwnedInstance) -> None:
        instance, link = owned.described, owned.link
        if not instance.primary_ip:
            return
        session = await self._connector.open_session(instance, fresh=owned.fresh and not link.ever_connected)
        renewal = _Renewal(self._connector, instance)
        link.session = session
        link.sessions += 1
        try:
            self._listener.on_connected(owned)
            link.ever_connected = True
            await session.run(partial(self._take, owned), link.allowance)
        finally:
            link.session = None
            # Who floods, closes and is dialed again at once would be read at many times the rate.
            now = time.monotonic()
            link.redial_at = max(link.redial_at, now + link.allowance.full_in_s(now))
            self._listener.on_disconnected(owned)
            renewal.close()
        log.info("session with %s ended", instance.instance_id)

    def _take(self, owned: OwnedInstance, message: UpMessage) -> None:
        try:
            self._listener.on_message(owned, message)
        except AgentError:
            raise
        except Exception as error:
            # An unexpected fault caused by one agent's message ends the session of that agent only.
            log.exception("instance %s: a message of its agent could not be handled", owned.instance_id)
            raise AgentProtocolError(f"a {message['type']} message could not be handled: {error!r}") from error


class _Renewal:
    """Renews the certificate of one agent while its session is open. There are as many as pods: until one is due there
    is a timer, and no task."""

    __slots__ = ("_connector", "_instance", "_next")

    def __init__(self, connector: AgentConnector, instance: Instance) -> None:
        self._connector, self._instance = connector, instance
        self._next: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._plan()

    def _plan(self, pause_s: float = 0.0) -> None:
        delay_s = pause_s + self._connector.renewal_delay_s(self._instance)
        self._next = asyncio.get_running_loop().call_later(delay_s, self._begin) if delay_s < math.inf else None

    def _begin(self) -> None:
        self._next = asyncio.create_task(self._renew(), name=f"renew {self._instance.instance_id}")

    async def _renew(self) -> None:
        pause_s = 0.0
        try:
            await self._connector.renew(self._instance)
        except AgentError as error:
            log.warning("certificate of %s not renewed: %s", self._instance.instance_id, error)
            pause_s = RENEWAL_RETRY_S
        except Exception:  # nobody waits for this task: the certificate would expire under the open session
            log.exception("certificate of %s not renewed", self._instance.instance_id)
            pause_s = RENEWAL_RETRY_S
        self._plan(pause_s)

    def close(self) -> None:
        if self._next is not None:
            self._next.cancel()


class _FateQuestion:
    """Asks the cloud what has become of an instance, beside the dialing, which does not wait for it: an answer takes a
    listing. It counts unless there was a session meanwhile. While the instance shuts down, its pod may still run."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._task: asyncio.Task[str] | None = None
        self._sessions = 0

    def ask(self, owned: OwnedInstance) -> None:
        if self._task is None:
            self._sessions = owned.link.sessions
            self._task = asyncio.create_task(self._find_end(owned.instance_id), name=f"fate of {owned.instance_id}")

    def answer(self, owned: OwnedInstance) -> str:
        """How the instance has ended; "" while that is not known."""
        if self._task is None or not self._task.done():
            return ""
        task, self._task = self._task, None
        if self._sessions != owned.link.sessions:
            self.ask(owned)  # its agent has spoken since
            return ""
        return task.result()

    async def wait(self, limit_s: float) -> None:
        """So long, or until the end of the instance is known."""
        until = time.monotonic() + limit_s
        if self._task is not None:
            done, _ = await asyncio.wait({self._task}, timeout=max(0.0, limit_s))
            if not done or self._task.exception() is not None or self._task.result():
                return
        await asyncio.sleep(until - time.monotonic())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _find_end(self, instance_id: str) -> str:
        try:
            found = await self._look(instance_id)
        except CloudError as error:
            log.warning("state of instance %s is not known: %s", instance_id, error)
            return ""
        if found is None:
            return f"the cloud does not know instance {instance_id} any more"
        return describe_end(found) if found.state.has_stopped else ""


def _note_gone(owned: OwnedInstance, message: str) -> None:
    """The instance is gone, either with its pod or before a pod could start."""
    if owned.has_booted:
        owned.lost = message
    else:
        owned.boot_failed = message
