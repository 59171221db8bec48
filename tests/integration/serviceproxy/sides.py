"""Our tables and the real kube-proxy in two equal beds, and the same connections through both."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.integration.serviceproxy.bed import Bed
from tests.integration.serviceproxy.clients import Answer, Attempt
from tests.integration.serviceproxy.kubeproxy import KubeProxy
from tests.integration.serviceproxy.opened import Opened
from tests.integration.serviceproxy.ours import OurProxy
from tests.service_history import SHORT_AFFINITY_S, Objects
from tests.service_objects import NODE4, NODE6, PODS, PODS6

CIDRS = ("10.96.0.0/16", "fd00:96::/112")
ZONE = "z1"
ROUNDS = (1, 2, 6, 12, 24, 48)
"""Connections of each open question in a round, all at once. Of 8 endpoints one stays unseen in all of them once in
30,000 times, and then they are asked once more."""
LEAST = 3
WAIT_S = 0.3
CONTROL_PORT, CONTROL_SHARE, LOSSES = 8080, 200, 5
"""One of so many connections that need no Service goes along in each batch, of each kind; batches that lose one are
tried anew so often."""
OUTSIDE, BEYOND, POD, ITSELF, NODE = "outside", "outside, other half", "pod", "endpoint", "node"


@dataclass(frozen=True, slots=True)
class Question:
    """What is tried again and again: `client` is a kind of source, `affine` means a new client each time."""

    client: str
    protocol: str
    target: str
    port: int
    affine: bool = False


Seen = dict[Question, Counter[Answer]]


class Sides(Opened):
    """Use as a context manager. Both sides are given the same objects. spoil: see OurProxy."""

    def __init__(self, directory: Path, spoil: Callable[[str], str] = lambda text: text) -> None:
        super().__init__()
        self._directory, self._spoil = directory, spoil
        self._threads = ThreadPoolExecutor(2)
        self._objects: Objects = ({}, {})
        self._clients = itertools.count(1)
        self._states = 0
        self._losses = 0

    def _open(self) -> None:
        self._stack.enter_context(self._threads)
        beds = [self._stack.enter_context(Bed()) for _ in range(2)]
        self.ours = OurProxy(beds[0], ZONE, CIDRS, spoil=self._spoil)
        self.theirs = self._stack.enter_context(KubeProxy(beds[1], self._directory, ZONE, CIDRS))
        self.beds = beds

    def set(self, objects: Objects) -> None:
        """Make both follow: only what differs from before is sent."""
        for kind, (before, after) in enumerate(zip(self._objects, objects, strict=True)):
            for key in before.keys() | after.keys():
                if before.get(key) != after.get(key):
                    for side in (self.ours, self.theirs):
                        (side.set_slice if kind else side.set_service)(key, after.get(key))
        self._objects = objects
        self._states += 1
        self.ours.apply()
        self.theirs.wait()

    def differences(self, questions: Iterable[Question]) -> list[str]:
        """Questions that the two answer differently, in words; empty when they agree.

        A choice is random on both sides: each question is asked at least LEAST times and until both have shown the same
        answers; what only one of them shows in ROUNDS is a difference. kube-proxy may follow late, so most of what
        differs is asked once more; but a connection that fails here where others are answered is excused by nothing
        except kube-proxy failing as often.
        """
        found = self._ask(list(dict.fromkeys(questions)))
        certain = [item for item in found if _fails_some(item[1]) and not _fails_some(item[2])]
        doubtful = [item[0] for item in found if item not in certain]
        if doubtful:
            time.sleep(1)
            certain += self._ask(doubtful)
        return [f"{item}:\n  ours   {_show(ours)}\n  theirs {_show(theirs)}" for item, ours, theirs in certain]

    def connect(self, attempts: Sequence[Attempt], wait_s: float = WAIT_S) -> tuple[list[Answer], list[Answer]]:
        """The answers of both sides. A batch in which the machine itself has lost a packet is tried anew.

        Raises AssertionError when it loses too many.
        """
        ours, theirs = self._threads.map(partial(_connect, attempts=attempts, wait_s=wait_s), self.beds)
        while ours is None or theirs is None:
            self._losses += 1
            assert self._losses <= LOSSES, "this machine loses packets that no Service has a part in"
            ours, theirs = self._threads.map(partial(_connect, attempts=attempts, wait_s=wait_s), self.beds)
        return ours, theirs

    def find_source(self, client: str, six: bool, number: int) -> str:
        """The address of a kind of client; the number chooses among those that are many."""
        number %= 8000
        high, low = divmod(number, 250)
        if client == NODE:
            return ""
        if client == ITSELF:
            return PODS6[0] if six else PODS[0]
        if client == POD:
            return f"fd00:1::64:{number:x}" if six else f"10.1.{64 + high}.{low + 1}"
        if six:  # as it is written, to be known again
            return f"fd00:9::80:{number:x}" if client == BEYOND else f"fd00:9::{number:x}"
        return f"192.168.{high + 128 * (client == BEYOND)}.{low + 1}"

    def new_client(self) -> int:
        """The number of one that no Service remembers."""
        return next(self._clients)

    def _ask(self, left: list[Question]) -> list[tuple[Question, Counter[Answer], Counter[Answer]]]:
        """What differs, with how often each side answered what."""
        ours, theirs = ({question: Counter[Answer]() for question in left} for _ in range(2))
        asked = 0
        for tries in ROUNDS:
            asked += tries
            self._ask_once(left * tries, ours, theirs)
            last = tries == ROUNDS[-1]
            left = [item for item in left if not _is_settled(ours[item], theirs[item], asked, last)]
            if not left:
                break
        return [(item, ours[item], theirs[item]) for item in left]

    def _ask_once(self, questions: Sequence[Question], ours: Seen, theirs: Seen) -> None:
        """One more answer of each side to each; a client with affinity asks twice and must not be moved."""
        attempts = [self._attempt(question) for question in questions]
        started = time.monotonic()
        answers = self.connect(attempts)
        again = [
            number
            for number, question in enumerate(questions)
            if question.affine and any(side[number].kind == "answered" for side in answers)
        ]
        repeated = self.connect([attempts[number] for number in again]) if again else ([], [])
        in_time = time.monotonic() - started < SHORT_AFFINITY_S
        for seen, firsts, seconds in zip((ours, theirs), answers, repeated, strict=True):
            for number, second in zip(again, seconds, strict=True):
                if firsts[number].kind == "answered" and second != firsts[number]:
                    if second.kind != "answered":
                        firsts[number] = second
                    elif in_time:
                        firsts[number] = Answer("moved")
            for question, attempt, answer in zip(questions, attempts, firsts, strict=True):
                if answer.seen and answer.seen == attempt.source:
                    answer = replace(answer, seen="the client's own")
                seen[question][answer] += 1

    def _attempt(self, question: Question) -> Attempt:
        """A client is an address that was not used before wherever one may be remembered, by a Service or, before
        what was changed, by a UDP flow."""
        number = self.new_client() if question.affine else self._states
        source = self.find_source(question.client, ":" in question.target, number)
        return Attempt(source, question.protocol, question.target, question.port)


def list_places(item: dict) -> Iterator[tuple[str, str, int]]:
    """Address, protocol and port of all frontends of a Service."""
    spec = item["spec"]
    addresses = [ip for ip in spec["clusterIPs"] if ip != "None"]
    nodes = [NODE6 if ":" in ip else NODE4 for ip in addresses]
    addresses += spec.get("externalIPs", [])
    addresses += [ingress["ip"] for ingress in item["status"]["loadBalancer"].get("ingress", []) if "ip" in ingress]
    for port in spec["ports"]:
        yield from ((address, port["protocol"], port["port"]) for address in addresses)
        if "nodePort" in port:
            yield from ((node, port["protocol"], port["nodePort"]) for node in nodes)


def list_questions(objects: Objects, chance: random.Random, share: float = 1.0) -> Iterator[Question]:
    """Every address and port of the Services, from one kind of client and, of the others, from a share; a wrong port,
    an address of nobody."""
    for key in sorted(objects[0]):
        item = objects[0][key]
        affine = item["spec"].get("sessionAffinity") == "ClientIP"
        places = list(list_places(item))
        if chance.random() < 0.3 and places:
            address = places[0][0]
            mark = ":" if ":" in address else "."
            places += [(address, "TCP", 9), (f"{address.rpartition(mark)[0]}{mark}99", "TCP", 80)]
        for address, protocol, port in places:
            kinds = [chance.choice((OUTSIDE, BEYOND)), POD]
            if not affine:
                kinds += [NODE, *([ITSELF] if chance.random() < 0.3 else [])]
            chance.shuffle(kinds)
            for place, client in enumerate(kinds):
                if not place or chance.random() < share:
                    yield Question(client, protocol, address, port, affine)


def _connect(bed: Bed, attempts: Sequence[Attempt], wait_s: float) -> list[Answer] | None:
    """None when a connection that needs no Service was lost, too."""
    each = 1 + len(attempts) // CONTROL_SHARE // len(_CONTROLS)
    answers = bed.connect([*attempts, *_CONTROLS * each], wait_s)
    lost = any(answer.kind != "answered" for answer in answers[len(attempts) :])
    return None if lost else answers[: len(attempts)]


_CONTROLS = [
    Attempt(source, protocol, target, CONTROL_PORT)
    for protocol in ("TCP", "UDP", "SCTP")
    for target, sources in ((PODS[3], ("", "192.168.0.1", "10.1.64.1")), (PODS6[3], ("", "fd00:9::1", "fd00:1::64:1")))
    for source in sources
]


def _is_settled(ours: Counter[Answer], theirs: Counter[Answer], asked: int, last: bool) -> bool:
    """Where both fail at times, how often is known at the end alone."""
    if set(ours) != set(theirs):
        return False
    if _fails_some(ours):
        return last and not fails_more_often(_count_failures(ours), _count_failures(theirs), asked)
    return asked >= LEAST or _count_failures(ours) == asked


def _fails_some(seen: Counter[Answer]) -> bool:
    return 0 < _count_failures(seen) < seen.total()


def _count_failures(seen: Counter[Answer]) -> int:
    return sum(count for answer, count in seen.items() if answer.kind != "answered")


def fails_more_often(ours: int, theirs: int, tries: int) -> bool:
    """Whether either side fails more often than the other's share explains, but for once in 10,000 times."""
    high, low = max(ours, theirs), min(ours, theirs)
    share = (low + 2) / (tries + 4)  # of so few tries it may as well have been this
    tail = sum(math.comb(tries, k) * share**k * (1 - share) ** (tries - k) for k in range(high, tries + 1))
    return tail < 1e-4


def _show(answers: Counter[Answer]) -> str:
    words = ((f"{item.kind} {item.endpoint} {item.seen}".strip(), count) for item, count in answers.items())
    return "; ".join(f"{word} ({count})" for word, count in sorted(words))
