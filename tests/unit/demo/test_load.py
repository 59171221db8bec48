"""What the load of the autoscaler's demo is worth."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.demo.load import CLIENTS, Load, cpu_seconds


def test_an_answers_cost_is_all_of_its_cpu_time() -> None:
    assert cpu_seconds("\n0m0.060s 0m0.010s\n1m0.000s 0m0.005s\n") == pytest.approx(60.075)


@pytest.mark.parametrize("text", ["", "done", "0m0.000s 0m0.000s\n"])
def test_a_load_that_costs_nothing_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(ValueError, match="without its CPU time"):
        cpu_seconds(text)


@contextmanager
def server(answer_s: float) -> Iterator[tuple[int, list[int]]]:
    """One that answers one request at a time. Its port, and how many have waited for it at each request."""
    turn, waiting, seen = threading.Lock(), [0], list[int]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            waiting[0] += 1
            seen.append(waiting[0])
            with turn:
                time.sleep(answer_s)
            waiting[0] -= 1
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made.server_address[1], seen
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def test_clients_wait_for_a_slow_server_and_none_is_turned_away() -> None:
    with server(answer_s=0.02) as (port, seen):
        load = Load(lambda: ["127.0.0.1"], port, "/")
        load.start(rate=1000.0)
        time.sleep(0.6)
        load.stop()
    assert load.failed == 0
    assert load.answered == len(seen) <= 60 + CLIENTS
    assert 2 <= max(seen) <= CLIENTS


def test_a_fast_server_is_asked_no_more_often_than_wanted() -> None:
    with server(answer_s=0.0) as (port, seen):
        load = Load(lambda: ["127.0.0.1"], port, "/")
        load.start(rate=50.0)
        time.sleep(0.6)
        load.stop()
    assert load.failed == 0 and 1 <= load.answered <= 50 * 0.6 + CLIENTS


def test_what_fails_is_counted_with_its_reason() -> None:
    with server(answer_s=0.0) as (port, _):
        pass
    load = Load(lambda: ["127.0.0.1"], port, "/")
    load.start(rate=100.0)
    time.sleep(0.2)
    load.stop()
    assert load.answered == 0 and load.problems == {"ConnectionRefusedError": load.failed} and load.failed
