"""One table on its way to one agent: one text at a time, a whole one after a failure, with a back-off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vk_provider.agentclient import tables as module
from vk_provider.agentclient.tables import ANSWER_LIMIT_S, FIRST_TABLE_LIMIT_S, TableFlow, TableText
from vk_provider.aiokit.permits import Permits
from vk_provider.wire.tables import TableName


class Source:
    """Revisions that are named by hand; texts from any known revision, else whole ones."""

    name: TableName = "services"

    def __init__(self, *revisions: str, size: int = 0) -> None:
        self.known = list(revisions)
        self.size = size
        self.followers: list[Callable[[], None]] = []
        self.fail: Exception | None = None
        self.packed: list[bool] = []

    @property
    def revision(self) -> str:
        return self.known[-1] if self.known else ""

    async def text_from(self, base: str, *, packed: bool = False) -> TableText | None:
        self.packed.append(packed)
        if self.fail is not None:
            raise self.fail
        if not self.known or base == self.revision:
            return None
        base = base if base in self.known else ""
        return TableText(base, self.revision, f"{base}>{self.revision}".encode().ljust(self.size))

    def follow(self, on_change: Callable[[], None]) -> Callable[[], None]:
        self.followers.append(on_change)
        return lambda: self.followers.remove(on_change) if on_change in self.followers else None

    def publish(self, revision: str) -> None:
        self.known.append(revision)
        for follower in list(self.followers):
            follower()


class Timer:
    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due, self.call, self.is_cancelled = due, call, False

    def cancel(self) -> None:
        self.is_cancelled = True


class Agent:
    """A session with one flow, and time that passes when it is told to."""

    def __init__(
        self, source: Source, in_force: str = "", permits: Permits | None = None, *, packed: bool = False
    ) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []
        self.offered = 0
        self.failures: list[str] = []
        self.latencies: list[float] = []
        self.flow = TableFlow(
            source,
            self._offer,
            self,
            permits or Permits(1, 5.0),
            in_force,
            packed=packed,
            clock=lambda: self.now,
            later=self._later,
        )

    def sent(self, text: TableText) -> None: ...

    def applied(self, seconds: float) -> None:
        self.latencies.append(seconds)

    def failed(self, message: str) -> None:
        self.failures.append(message)

    def _offer(self, flow: TableFlow) -> None:
        self.offered += 1

    def _later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + delay_s, call))
        return self.timers[-1]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer in self.timers if timer.due <= self.now]:
            self.timers.remove(timer)
            if not timer.is_cancelled:
                timer.call()

    async def read(self) -> str | None:
        """What the writer sends next, if something was offered."""
        if not self.offered:
            return None
        self.offered = 0
        frame = await self.flow.make()
        self.flow.written()
        return frame.decode().strip() if frame is not None else None

    def say(self, in_force: str, error: str = "", name: TableName | None = "services") -> None:
        self.flow.answer(in_force, error, name)


async def test_an_agent_that_has_the_newest_table_is_sent_nothing() -> None:
    agent = Agent(Source("a", "b"), "b")
    assert await agent.read() is None and agent.flow.behind_s() == 0.0


async def test_after_a_reconnect_an_agent_is_sent_the_difference_or_the_whole_table() -> None:
    assert await Agent(Source("a", "b"), "a").read() == "a>b"
    assert await Agent(Source("a", "b"), "unknown").read() == ">b"
    assert await Agent(Source("a", "b")).read() == ">b"


async def test_one_text_at_a_time_and_then_from_there_to_the_newest() -> None:
    source = Source("a")
    agent = Agent(source)
    assert await agent.read() == ">a"
    for revision in "bcd":
        source.publish(revision)
    assert await agent.read() is None
    agent.say("a")
    assert await agent.read() == "a>d"
    agent.say("d")
    assert await agent.read() is None and not agent.failures


async def test_the_text_is_made_when_the_writer_takes_it() -> None:
    source = Source("a")
    agent = Agent(source, "a")
    source.publish("b")
    source.publish("c")
    assert await agent.read() == "a>c"


async def test_a_refused_text_is_reported_and_followed_by_the_whole_table_after_a_pause() -> None:
    agent = Agent(Source("a", "b"), "a")
    assert await agent.read() == "a>b"
    agent.say("a", "nft: no space")
    assert agent.failures == ["nft: no space"]
    assert await agent.read() == ">b"
    agent.say("a", "nft: no space")
    assert await agent.read() is None  # a second whole table waits
    agent.pass_time(0.5)
    assert await agent.read() is None
    agent.pass_time(0.7)
    assert await agent.read() == ">b"
    agent.say("a", "nft: no space")
    agent.pass_time(1.5)
    assert await agent.read() is None  # longer each time
    agent.pass_time(1.0)
    assert await agent.read() == ">b"
    agent.say("b")
    assert await agent.read() is None and agent.flow.behind_s() == 0.0


async def test_an_agent_that_keeps_failing_cannot_have_whole_tables_more_often() -> None:
    agent = Agent(Source("a"))
    count = 0
    for _ in range(3600):
        if await agent.read() is not None:
            count += 1
            agent.say("", "no")
        agent.pass_time(1.0)
    assert 50 < count < 90


async def test_a_text_without_an_answer_is_reported_and_the_table_is_sent_again() -> None:
    agent = Agent(Source("a", "b"), "a")
    assert await agent.read() == "a>b"
    agent.pass_time(ANSWER_LIMIT_S - 1)
    assert not agent.failures
    agent.pass_time(2)
    assert len(agent.failures) == 1 and "has not said" in agent.failures[0]
    assert await agent.read() == ">b"


async def test_a_late_answer_is_believed() -> None:
    agent = Agent(Source("a", "b"), "a")
    await agent.read()
    agent.pass_time(ANSWER_LIMIT_S + 1)
    agent.say("b")
    assert agent.flow.behind_s() == 0.0
    assert await agent.read() is None


async def test_an_agent_that_lost_its_table_says_so_and_is_sent_it_again() -> None:
    agent = Agent(Source("a", "b"), "b")
    agent.say("", name=None)
    assert await agent.read() == ">b"


async def test_what_an_agent_says_before_it_has_read_a_text_is_no_answer_to_it() -> None:
    agent = Agent(Source("a", "b"), "a")
    await agent.read()
    agent.say("a", name=None)
    agent.say("a", "of the other table", name="policy")
    assert not agent.failures and await agent.read() is None
    agent.say("b")
    assert agent.flow.in_force == "b"


async def test_an_older_form_of_answer_without_a_name_counts() -> None:
    agent = Agent(Source("a", "b"), "a")
    await agent.read()
    agent.say("b", name=None)
    assert agent.flow.in_force == "b" and agent.flow.behind_s() == 0.0


async def test_a_table_that_does_not_come_is_reported_once_and_sent_when_it_is_there() -> None:
    source = Source()
    agent = Agent(source)
    agent.pass_time(FIRST_TABLE_LIMIT_S + 1)
    assert len(agent.failures) == 1 and "not yet read" in agent.failures[0]
    source.publish("a")
    assert await agent.read() == ">a"
    punctual = Agent(Source())
    punctual.flow._source.publish("a")
    punctual.pass_time(FIRST_TABLE_LIMIT_S + 1)
    assert not punctual.failures


async def test_the_time_until_a_change_is_in_force_counts_from_the_change() -> None:
    source = Source("a")
    agent = Agent(source, "a")
    source.publish("b")
    agent.pass_time(2.0)
    source.publish("c")
    assert agent.flow.behind_s() == 2.0
    await agent.read()
    agent.pass_time(1.0)
    source.publish("d")
    agent.pass_time(1.0)
    assert agent.flow.behind_s() == 4.0
    agent.say("c")
    assert agent.latencies == [4.0] and agent.flow.behind_s() == 1.0


async def test_a_closed_flow_offers_nothing_and_leaves_its_source() -> None:
    source = Source("a")
    agent = Agent(source)
    agent.flow.close()
    source.publish("b")
    assert await agent.flow.make() is None and not source.followers
    agent.pass_time(1000)
    assert not agent.failures


async def test_a_large_text_waits_for_a_permit_and_is_then_the_newest() -> None:
    source = Source("a", size=module.LARGE_BYTES)
    permits = Permits(1, 60.0)
    first, second = Agent(source, permits=permits), Agent(source, permits=permits)
    assert await first.flow.make() is not None
    waiting = asyncio.create_task(second.flow.make())
    await asyncio.sleep(0)
    source.publish("b")
    assert not waiting.done()
    first.flow.written()
    frame = await waiting
    assert frame is not None and frame.strip() == b">b"
    second.flow.written()


async def test_a_writer_that_ends_while_it_waits_for_a_permit_keeps_none() -> None:
    source = Source("a", size=module.LARGE_BYTES)
    permits = Permits(1, 60.0)
    holder, waiter = Agent(source, permits=permits), Agent(source, permits=permits)
    await holder.flow.make()
    waiting = asyncio.create_task(waiter.flow.make())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    waiter.flow.close()
    holder.flow.close()
    permit = await asyncio.wait_for(permits.acquire(), 1.0)
    permit.release()


async def test_a_text_that_cannot_be_made_is_tried_again_later() -> None:
    source = Source("a")
    agent = Agent(source)
    source.fail = ValueError("too large")
    assert await agent.read() is None
    source.fail = None
    agent.pass_time(module.WHOLE_MAX_S + 1)
    assert await agent.read() == ">a"


async def test_how_long_an_agent_has_had_its_table_is_known() -> None:
    source = Source("a")
    agent = Agent(source, "a")
    agent.pass_time(5)
    assert (agent.flow.newest, agent.flow.held_s()) == ("a", 5.0)
    source.publish("b")
    await agent.read()
    agent.pass_time(1)
    assert (agent.flow.newest, agent.flow.in_force, agent.flow.held_s()) == ("b", "a", 6.0)
    agent.say("b")
    agent.pass_time(2)
    assert (agent.flow.in_force, agent.flow.held_s()) == ("b", 2.0)


async def test_after_a_failure_an_agent_is_sent_text_alone() -> None:
    source = Source("a")
    agent = Agent(source, packed=True)
    await agent.read()
    agent.say("", "packed elements that cannot be read")
    agent.pass_time(5)
    assert await agent.read() == ">a" and source.packed[0] and not source.packed[-1]
