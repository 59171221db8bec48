"""Requests at a steady rate, spread over the addresses of pods."""

from __future__ import annotations

import http.client
import itertools
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

_LIMIT_S = 5.0
_AT_A_TIME = 24
"""Requests without an answer yet; what comes beyond it is dropped, as clients give up."""


def cpu_seconds(times: str) -> float:
    """Of what a shell's `times` prints: user and system time of itself and of its children, as `0m0.06s`. ValueError
    where there is none: nothing could be scaled by it."""
    total = sum(60 * int(minutes) + float(seconds) for minutes, seconds in re.findall(r"(\d+)m(\d+\.\d+)s", times))
    if total <= 0:
        raise ValueError(f"an answer without its CPU time: {times!r}")
    return total


class Load:
    """Sends from `start` to `stop`. addresses: where to, asked for each request."""

    def __init__(self, addresses: Callable[[], Sequence[str]], port: int, path: str) -> None:
        self._addresses, self._port, self._path = addresses, port, path
        self.answered = self.failed = self.dropped = 0
        self.rate = 0.0
        self._stop = threading.Event()
        self._room = threading.Semaphore(_AT_A_TIME)
        self._turn = itertools.count()
        self._thread: threading.Thread | None = None

    def measure(self, tries: int = 7) -> float:
        """CPU seconds that one answer costs, as the answers themselves say. The time that they take says less: another
        process of the machine may have had the CPU."""
        return sum(cpu_seconds(self._get(self._addresses()[0])) for _ in range(tries)) / tries

    def start(self, rate: float) -> None:
        """rate: requests a second"""
        self.rate = rate
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.rate = 0.0

    def _run(self) -> None:
        with ThreadPoolExecutor(_AT_A_TIME) as senders:
            due = time.monotonic()
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due += 1 / self.rate
                addresses = self._addresses()
                if addresses and self._room.acquire(blocking=False):
                    senders.submit(self._send, addresses[next(self._turn) % len(addresses)])
                else:
                    self.dropped += 1

    def _send(self, address: str) -> None:
        try:
            self._get(address)
            self.answered += 1
        except (OSError, http.client.HTTPException):
            self.failed += 1
        finally:
            self._room.release()

    def _get(self, address: str) -> str:
        connection = http.client.HTTPConnection(address, self._port, timeout=_LIMIT_S)
        try:
            connection.request("GET", self._path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()
