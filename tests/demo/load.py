"""Requests at a steady rate, spread over the addresses of pods."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

_LIMIT_S = 5.0
_AT_A_TIME = 24
"""Requests without an answer yet; what comes beyond it is dropped, as clients give up."""


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
        """Seconds that one answer takes a pod that has nothing else to do: the middle one of some."""
        times = []
        for _ in range(tries):
            started = time.monotonic()
            self._get(self._addresses()[0])
            times.append(time.monotonic() - started)
            time.sleep(0.2)
        return sorted(times)[tries // 2]

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

    def _get(self, address: str) -> None:
        connection = http.client.HTTPConnection(address, self._port, timeout=_LIMIT_S)
        try:
            connection.request("GET", self._path)
            connection.getresponse().read()
        finally:
            connection.close()
