"""Tables on their way to one agent (wire.tables): one text at a time, from what the agent has to the newest.

A text is made when the session's writer takes it, so an agent that is slow skips revisions and costs nothing. The next
one follows when the agent has said what is in force. A text that was refused, or is not answered in time, is followed
by the whole table, with a back-off.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vk_provider.aiokit.backoff import Backoff
from vk_provider.aiokit.permits import Permit, Permits
from vk_provider.wire.tables import TableName

log = logging.getLogger(__name__)

ANSWER_LIMIT_S = 60.0
"""For an agent to apply a text: a large table takes seconds on a small instance."""
FIRST_TABLE_LIMIT_S = 30.0
"""After this the lack of a table is reported, as no container starts without it."""
WHOLE_FIRST_S, WHOLE_MAX_S = 1.0, 60.0
"""Pause after a whole table before the session is sent another one, and its limit."""
FORGIVEN_S = 300.0
"""A session that needed no whole table for so long is sent the next one at once."""
LARGE_BYTES = 128 << 10
"""A text of this size needs a permit, since each session that writes it holds a copy or two."""


@dataclass(frozen=True, slots=True)
class TableText:
    """A TableMessage: encoded once, for all sessions that need just this one."""

    base: str
    revision: str
    frame: bytes


class TableSource(Protocol):
    """Makes the texts of one table, for one instance or for many."""

    @property
    def name(self) -> TableName: ...

    @property
    def revision(self) -> str:
        """The newest; "" while there is none yet."""

    async def text_from(self, base: str, *, packed: bool = False) -> TableText | None:
        """From the revision `base` ("" or an unknown one: the whole table) towards the newest: the whole table may be
        of an earlier one, and a difference follows. None when there is nothing to send. packed: the agent takes packed
        elements."""

    def follow(self, on_change: Callable[[], None]) -> Callable[[], None]:
        """Call `on_change` when there is a new revision, until the function that is returned is called."""


class TableObserver(Protocol):
    """What happens to tables, for metrics and events."""

    def sent(self, text: TableText) -> None: ...

    def applied(self, seconds: float) -> None:
        """A text is in force; seconds since the agent's table was out of date."""

    def failed(self, message: str) -> None: ...


class Timer(Protocol):
    def cancel(self) -> None: ...


def call_later(delay_s: float, call: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, call)


class TableFlow:
    """One table of one session; a LazyMessage of the session's outbox.

    offer:    puts this flow into its slot of the outbox
    in_force: the revision that the agent has, by its own word
    packed:   it takes packed elements; after a failure it is sent text alone
    """

    __slots__ = (
        "_clock",
        "_closed",
        "_due_since",
        "_later",
        "_missing",
        "_observer",
        "_packed",
        "_offer",
        "_permit",
        "_permits",
        "_sent",
        "_sent_since",
        "_since",
        "_source",
        "_starts_over",
        "_timer",
        "_unfollow",
        "_whole_at",
        "_whole_backoff",
        "_whole_due",
        "in_force",
    )

    def __init__(
        self,
        source: TableSource,
        offer: Callable[[TableFlow], None],
        observer: TableObserver,
        permits: Permits,
        in_force: str,
        *,
        packed: bool = False,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], Timer] = call_later,
    ) -> None:
        self._source, self._offer, self._observer, self._permits = source, offer, observer, permits
        self._packed, self._clock, self._later = packed, clock, later
        self.in_force, self._since = in_force, clock()
        self._starts_over = False
        self._sent: TableText | None = None
        self._permit: Permit | None = None
        self._timer: Timer | None = None
        self._whole_backoff = Backoff(WHOLE_FIRST_S, WHOLE_MAX_S)
        self._whole_at, self._whole_due = 0.0, 0.0
        self._due_since, self._sent_since = 0.0, 0.0
        self._closed = False
        self._unfollow = source.follow(self._changed)
        self._missing = None if source.revision else later(FIRST_TABLE_LIMIT_S, self._note_missing)
        self._look()

    @property
    def name(self) -> TableName:
        return self._source.name

    @property
    def newest(self) -> str:
        """Revision of the table that the agent should have; "" while there is none."""
        return self._source.revision

    def held_s(self) -> float:
        """For how long the agent is known to have `in_force`."""
        return self._clock() - self._since

    def behind_s(self) -> float:
        """For how long the agent's table has been out of date; 0.0 when it is not."""
        since = self._sent_since if self._sent else self._due_since
        return self._clock() - since if since else 0.0

    def close(self) -> None:
        self._closed = True
        self._unfollow()
        self._set_timer(0.0, None)
        self._cancel_missing()
        self.written()

    def _changed(self) -> None:
        self._cancel_missing()
        if self._source.revision != (self._sent.revision if self._sent else self.in_force):
            self._due_since = self._due_since or self._clock()
        self._look()

    def _look(self) -> None:
        """Offer the next text unless one is on its way or has to wait."""
        revision = self._source.revision
        if self._closed or self._sent or not revision:
            return
        if revision == self.in_force:
            self._starts_over, self._due_since = False, 0.0
            self._set_timer(0.0, None)
            return
        self._due_since = self._due_since or self._clock()
        if self._timer is None:
            self._offer(self)

    async def make(self) -> bytes | None:
        """The text, when the writer takes it."""
        text = await self._next_text()
        if text is not None and len(text.frame) >= LARGE_BYTES:
            self.written()
            self._permit = await self._permits.acquire()
            text = await self._next_text()
            if text is None:
                self.written()
        if text is None:
            return None
        self._sent, self._sent_since = text, self._due_since or self._clock()
        self._due_since = 0.0 if text.revision == self._source.revision else self._sent_since
        if not text.base:
            self._note_whole()
        self._set_timer(ANSWER_LIMIT_S, self._unanswered)
        self._observer.sent(text)
        return text.frame

    def written(self) -> None:
        """The writer has done with the text, or gave it up."""
        if self._permit is not None:
            self._permit.release()
            self._permit = None

    async def _next_text(self) -> TableText | None:
        if self._sent or self._closed or self._timer:
            return None
        try:
            text = await self._source.text_from("" if self._starts_over else self.in_force, packed=self._packed)
        except Exception:
            log.exception("the text of the table %s could not be made", self.name)
            self._set_timer(WHOLE_MAX_S, self._retry)
            return None
        if text is None or self._sent or self._closed or self._timer:
            return None
        pause_s = self._whole_due - self._clock()
        if text.base or pause_s <= 0:
            return text
        self._set_timer(pause_s, self._retry)
        return None

    def _note_whole(self) -> None:
        now = self._clock()
        if now - self._whole_at >= FORGIVEN_S:
            self._whole_backoff.reset()
        self._whole_at, self._whole_due = now, now + self._whole_backoff.next_delay_s()

    def answer(self, in_force: str, error: str, name: TableName | None) -> None:
        """The agent's word about its tables; `name`: of the text that it answers, None when it does not say."""
        sent = self._sent
        if sent is None:
            self._note(in_force)
            self._look()
            return
        early = name is None and not error and in_force == self.in_force != sent.revision
        if early or name not in (None, self.name):
            return  # not about the text that is on its way
        self._sent = None
        self._note(in_force)
        self._set_timer(0.0, None)
        if in_force == sent.revision:
            self._starts_over = False
            self._observer.applied(self._clock() - self._sent_since)
            self._look()
        else:
            self._fail(error or f"it has {in_force or 'no table'} in force instead of {sent.revision}")

    def _unanswered(self) -> None:
        self._timer, self._sent = None, None
        self._fail(f"it has not said within {ANSWER_LIMIT_S:.0f} s what is in force")

    def _note_missing(self) -> None:
        self._missing = None
        self._observer.failed("the provider has not yet read what the table is made of")

    def _cancel_missing(self) -> None:
        if self._missing is not None:
            self._missing.cancel()
            self._missing = None

    def _note(self, in_force: str) -> None:
        if in_force != self.in_force:
            self.in_force, self._since = in_force, self._clock()

    def _fail(self, message: str) -> None:
        self._starts_over = True
        self._packed = False  # that may be the reason
        self._due_since = self._sent_since
        self._observer.failed(message)
        self._look()  # `make` waits for the back-off

    def _retry(self) -> None:
        self._timer = None
        self._look()

    def _set_timer(self, delay_s: float, call: Callable[[], None] | None) -> None:
        """One timer: until a text must be answered, or the pause before the next."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._later(delay_s, call) if call is not None else None
