"""Requests of some clients, spread over the addresses of pods."""

from __future__ import annotations

import http.client
import itertools
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

_LIMIT_S = 15.0
CLIENTS = 10
"""Of as many one server of the demo answers each within three seconds."""


def cpu_seconds(times: str) -> float:
    """Of what a shell's `times` prints: user and system time of itself and of its children, as `0m0.06s`. ValueError
    where there is none: nothing could be scaled by it."""
    total = sum(60 * int(minutes) + float(seconds) for minutes, seconds in re.findall(r"(\d+)m(\d+\.\d+)s", times))
    if total <= 0:
        raise ValueError(f"an answer without its CPU time: {times!r}")
    return total


class Load:
    """Clients that send from `start` to `stop`, each its next request when the one before was answered: where servers
    are slow, they get fewer, and none is turned away. addresses: where to, asked for each request."""

    def __init__(self, addresses: Callable[[], Sequence[str]], port: int, path: str) -> None:
        self._addresses, self._port, self._path = addresses, port, path
        self.answered = self.failed = 0
        self.problems: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._stop = threading.Event()
        self._turn = itertools.count()
        self._clients: list[threading.Thread] = []

    def measure(self, tries: int = 7) -> float:
        """CPU seconds that one answer costs, as the answers themselves say. The time that they take says less: another
        process of the machine may have had the CPU."""
        return sum(cpu_seconds(self._get(self._addresses()[0])) for _ in range(tries)) / tries

    def start(self, rate: float) -> None:
        """rate: requests a second of all clients together, at most"""
        pause_s = CLIENTS / rate
        for number in range(CLIENTS):
            first_s = pause_s * number / CLIENTS
            client = threading.Thread(target=self._run, args=(first_s, pause_s), name=f"client {number}", daemon=True)
            self._clients.append(client)
            client.start()

    def stop(self) -> None:
        """After the answers that are on their way."""
        self._stop.set()
        for client in self._clients:
            client.join()

    def _run(self, first_s: float, pause_s: float) -> None:
        due = time.monotonic() + first_s
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            addresses = self._addresses()
            if addresses:
                self._send(addresses[next(self._turn) % len(addresses)])
            due = max(due + pause_s, time.monotonic())

    def _send(self, address: str) -> None:
        problem = ""
        try:
            self._get(address)
        except (OSError, http.client.HTTPException) as error:
            problem = type(error).__name__
        with self._counting:
            if problem:
                self.failed += 1
                self.problems[problem] += 1
            else:
                self.answered += 1

    def _get(self, address: str) -> str:
        connection = http.client.HTTPConnection(address, self._port, timeout=_LIMIT_S)
        try:
            connection.request("GET", self._path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()
