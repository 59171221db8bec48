"""What of the head of an agent's answer to an upgrade reaches the API server."""

from __future__ import annotations

import pytest

from vk_provider.agentclient.answer_gate import MAX_HEAD_BYTES, MAX_REFUSAL_BYTES, AnswerGate

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
V4 = b"X-Stream-Protocol-Version: v4.channel.k8s.io\r\n"


def pass_all(gate: AnswerGate, data: bytes, step: int) -> bytes:
    return b"".join(gate.pass_on(data[i : i + step]) for i in range(0, len(data), step))


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_an_upgrade_passes_with_its_own_headers_only_and_then_every_byte(step: int) -> None:
    gate = AnswerGate()
    answer = SWITCHED + b"Location: http://169.254.169.254/\r\nSet-Cookie: a=b\r\n" + V4 + b"\r\n"
    assert pass_all(gate, answer + b"\x00\xffHTTP/1.1 302 \r\n\r\n", step) == (
        SWITCHED + V4 + b"\r\n\x00\xffHTTP/1.1 302 \r\n\r\n"
    )
    assert not gate.done and gate.finish() == b""


@pytest.mark.parametrize("step", [1, 10_000])
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0",
        b"HTTP/1.1 307 \r\nLocation: /run\r\nContent-Length: 0",
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 200 OK\r\nX: a\nLocation: b",
        b"HTTP/1.1 200 OK\r\nX: a\x00b",
        b"HTTP/1.1 200 OK\r\n folded",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection : Upgrade",
        b"HTTP/2 200",
        b"SSH-2.0-x",
        b"X: " + b"x" * MAX_HEAD_BYTES,
        b"",
    ],
)
def test_redirects_and_broken_heads_become_one_bad_gateway(head: bytes, step: int) -> None:
    gate = AnswerGate()
    passed = pass_all(gate, head + b"\r\n\r\nbody that nobody sees", step)
    first, _, body = passed.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"location" not in passed.lower() and b"169.254" not in passed and b"nobody" not in passed
    assert f"Content-Length: {len(body)}".encode() in first
    assert gate.done and gate.pass_on(b"more") == b"" and gate.finish() == b""


def test_a_head_without_an_end_is_not_collected_for_ever() -> None:
    gate = AnswerGate()
    passed = pass_all(gate, b"a" * 4 * MAX_HEAD_BYTES, 1000)
    assert passed.startswith(b"HTTP/1.1 502") and gate.done


def test_a_refusal_passes_as_status_type_and_body() -> None:
    gate = AnswerGate()
    answer = b"HTTP/1.1 404 Nope\r\nContent-Type: text/html\r\nRetry-After: 9\r\nContent-Length: 4\r\n\r\ngone+more"
    assert pass_all(gate, answer, 5) == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n"
        b"Connection: close\r\n\r\ngone"
    )
    assert gate.done


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n", b""]
)
def test_an_endless_refusal_is_cut_off(framing: bytes) -> None:
    gate = AnswerGate()
    answer = b"HTTP/1.1 500 x\r\n" + framing + b"\r\n" + b"x" * 2 * MAX_REFUSAL_BYTES
    head, _, body = pass_all(gate, answer, 4096).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert len(body) == MAX_REFUSAL_BYTES and gate.done


def test_a_refusal_without_a_body_is_over_with_its_head() -> None:
    gate = AnswerGate()
    assert gate.pass_on(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n")
    assert gate.done


def test_an_agent_that_closes_without_an_answer_is_a_bad_gateway_to_the_client() -> None:
    gate = AnswerGate()
    assert gate.pass_on(b"HTTP/1.1 101 Swi") == b""
    assert gate.finish().startswith(b"HTTP/1.1 502")


class Follower:
    """A Trailer that keeps what it observed."""

    def __init__(self) -> None:
        self.seen = b""

    def feed(self, data: bytes) -> None:
        self.seen += data

    def finish(self) -> bytes:
        return b"the end"


def test_the_trailer_behind_the_gate_is_sent_at_the_end_of_a_stream() -> None:
    gate = AnswerGate(follower := Follower())
    gate.feed(gate.pass_on(SWITCHED + b"\r\nabc"))
    assert follower.seen == SWITCHED + b"\r\nabc" and gate.finish() == b"the end"
