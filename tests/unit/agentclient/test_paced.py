"""What parsing one connection's bytes may cost the loop."""

from __future__ import annotations

import asyncio
from typing import Any

from vk_provider.agentclient.paced import BURST_S, SHARE, SLICE, PacedProtocol
from vk_provider.aiokit.ratelimit import TokenBucket

COST_S = 0.03
"""What a slice costs here."""


class Transport:
    """Counts pauses as a transport does."""

    def __init__(self) -> None:
        self.reading = True
        self.protocol: Any = None

    def is_reading(self) -> bool:
        return self.reading

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str) -> str:
        return f"the {name}"


class Parser(asyncio.Protocol):
    """Each slice costs COST_S of the clock."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.now = 0.0
        self.cost_s = COST_S
        self.parsed = 0
        self.lost = False

    def clock(self) -> float:
        return self.now

    def data_received(self, data: bytes) -> None:
        assert len(data) <= SLICE
        self.now += self.cost_s
        self.parsed += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


def build() -> tuple[Transport, Parser, PacedProtocol]:
    transport, parser = Transport(), Parser()
    parser.transport, transport.protocol = transport, parser
    paced: Any = PacedProtocol.install(transport, TokenBucket(SHARE, BURST_S, 0.0))
    paced._clock = parser.clock
    return transport, parser, paced


async def test_what_costs_little_is_parsed_at_once() -> None:
    transport, parser, paced = build()
    parser.cost_s = 0.0
    paced.data_received(b"x" * 10 * SLICE)
    assert parser.parsed == 10 * SLICE and transport.reading


async def test_who_costs_more_than_its_share_is_not_read_from_for_a_while() -> None:
    transport, parser, paced = build()
    paced.data_received(b"x" * 20 * SLICE)
    assert parser.parsed == (int(BURST_S / COST_S) + 1) * SLICE and not transport.reading
    handle: Any = paced._next
    wait_s = handle.when() - asyncio.get_running_loop().time()
    assert COST_S / SHARE * 0.5 < wait_s <= COST_S / SHARE
    paced.data_received(b"y" * SLICE)
    assert parser.parsed == (int(BURST_S / COST_S) + 1) * SLICE
    handle.cancel()
    parser.now, parser.cost_s = parser.now + 1000.0, 0.0
    paced._go_on()
    assert parser.parsed == 21 * SLICE and transport.reading


async def test_neither_pause_undoes_the_other() -> None:
    transport, parser, paced = build()
    parser.transport.pause_reading()
    paced.data_received(b"x" * 20 * SLICE)
    parser.transport.resume_reading()
    assert not transport.reading
    parser.transport.pause_reading()
    parser.now, parser.cost_s = parser.now + 1000.0, 0.0
    assert paced._next is not None
    paced._next.cancel()
    paced._go_on()
    assert not transport.reading
    parser.transport.resume_reading()
    await asyncio.sleep(0)
    assert transport.reading
    assert parser.transport.get_extra_info("peercert") == "the peercert"


async def test_a_lost_connection_is_told_and_nothing_is_parsed_after_it() -> None:
    _, parser, paced = build()
    paced.data_received(b"x" * 20 * SLICE)
    parsed = parser.parsed
    paced.connection_lost(None)
    assert parser.lost and parser.parsed == parsed and paced._next is None


async def test_what_waits_for_the_protocol_is_parsed_in_a_turn_of_its_own() -> None:
    transport, parser, paced = build()
    parser.cost_s = 0.0
    parser.transport.pause_reading()
    paced.data_received(b"x" * 2 * SLICE)
    parser.transport.resume_reading()
    assert parser.parsed == 0 and not transport.reading
    await asyncio.sleep(0)
    assert parser.parsed == 2 * SLICE and transport.reading


async def test_nothing_is_read_any_more_once_it_is_stopped() -> None:
    transport, parser, paced = build()
    paced.data_received(b"x" * 20 * SLICE)
    parsed = parser.parsed
    paced.stop()
    parser.transport.resume_reading()
    paced.data_received(b"x")
    await asyncio.sleep(0)
    assert parser.parsed == parsed and not transport.reading


async def test_what_one_connection_has_used_up_the_next_one_has_not() -> None:
    bucket = TokenBucket(SHARE, BURST_S, 0.0)
    slices = []
    for _ in range(2):
        _, parser, paced = build()
        paced._bucket = bucket
        paced.data_received(b"x" * 20 * SLICE)
        paced.connection_lost(None)
        slices.append(parser.parsed // SLICE)
    assert slices == [BURST_S // COST_S + 1, 1]
