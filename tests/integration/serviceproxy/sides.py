"""Our tables and the real kube-proxy in two equal beds, and the same connections through both."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.integration.serviceproxy.bed import Answer, Attempt, Bed, kinds
from tests.integration.serviceproxy.kubeproxy import KubeProxy
from tests.integration.serviceproxy.opened import Opened
from tests.integration.serviceproxy.ours import OurProxy
from tests.service_history import Objects
from tests.service_objects import NODE4, NODE6, PODS, PODS6

CIDRS = ("10.96.0.0/16", "fd00:96::/112")
ZONE = "z1"
LEAST, ROUNDS = 3, 40
"""With 4 endpoints one of them stays unseen in 40 tries once in 25,000 times."""
SHARE_TRIES, SHARE_BATCH, SHARE_WAIT_S = 60, 12, 0.9
"""Connections of each side for a question that was dropped beside answers. The wait ends before a lost SYN is sent
again: the second one may well be answered."""
MAX_SHARES = 12
"""Questions that are asked so after one change: where a table drops, it drops on many."""
OUTSIDE, POD, ITSELF, NODE = "outside", "pod", "endpoint", "node"


@dataclass(frozen=True, slots=True)
class Question:
    """What is tried again and again: `client` is a kind of source, `affine` means a new client each time."""

    client: str
    protocol: str
    target: str
    port: int
    affine: bool = False


class Sides(Opened):
    """Use as a context manager. Both sides are given the same objects. spoil: see OurProxy."""

    def __init__(self, directory: Path, spoil: Callable[[str], str] = lambda text: text) -> None:
        super().__init__()
        self._directory, self._spoil = directory, spoil
        self._threads = ThreadPoolExecutor(2)
        self._objects: Objects = ({}, {})
        self._clients = itertools.count(1)

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
        self.ours.apply()
        self.theirs.wait()

    def differences(self, questions: Iterable[Question]) -> list[str]:
        """Questions that the two answer differently, in words; empty when they agree.

        A choice is random on both sides: each question is asked at least LEAST times and until both have shown the same
        endpoints; what only one of them shows in ROUNDS tries is a difference. A drop beside answers may be a busy
        machine: whether one side drops more often than the other is asked apart, see shares.
        """
        left, doubtful = self._ask(list(questions))
        if left:
            time.sleep(1)  # kube-proxy may follow late, and once more with the same question is no harm
            left, more = self._ask([question for question, *_ in left])
            doubtful = [*doubtful, *(question for question in more if question not in doubtful)]
        found = [f"{item}:\n  ours   {_show(ours)}\n  theirs {_show(theirs)}" for item, ours, theirs in left]
        return found + self._differing_shares(doubtful[:MAX_SHARES])

    def _ask(self, left: list[Question]) -> tuple[list[tuple[Question, set[Answer], set[Answer]]], list[Question]]:
        """What differs, with what each side answered; and what was dropped beside answers."""
        seen: tuple[dict[Question, set[Answer]], ...] = (defaultdict(set), defaultdict(set))
        doubtful: dict[Question, None] = {}
        for number in range(1, ROUNDS + 1):
            attempts = [self._attempt(question) for question in left]
            wait_s = 0.3 if number < 4 else 1.5  # a busy machine is no difference, nor is a refusal on the second try
            ask = partial(_ask_bed, questions=left, attempts=attempts, wait_s=wait_s)
            for side, (answers, repeated) in zip(seen, self._threads.map(ask, self.beds), strict=True):
                for question, answer in zip(left, answers, strict=True):
                    side[question].add(answer)
                    if {"answered", "dropped"} <= kinds(side[question]):
                        doubtful[question] = None
                doubtful |= dict.fromkeys(repeated)
            if number >= 4:
                _forget_lateness(seen, left)
            left = [item for item in left if not _is_settled(seen[0][item], seen[1][item], number)]
            if not left:
                break
        return [(item, seen[0][item], seen[1][item]) for item in left], list(doubtful)

    def _differing_shares(self, questions: Sequence[Question]) -> list[str]:
        """Those of which one side drops more connections than chance explains; asked twice before it counts."""
        for _ in range(2):
            counts = self._count_drops(questions)
            questions = [item for item in questions if drops_more_often(*(side[item] for side in counts))]
        return [
            f"{item}: of {SHARE_TRIES} connections ours dropped {counts[0][item]}, theirs {counts[1][item]}"
            for item in questions
        ]

    def _count_drops(self, questions: Sequence[Question]) -> list[Counter[Question]]:
        counts: list[Counter[Question]] = [Counter(), Counter()]
        for _ in range(SHARE_TRIES // SHARE_BATCH if questions else 0):
            attempts = [(item, self._attempt(item)) for item in questions for _ in range(SHARE_BATCH)]
            connect = partial(_connect_bed, attempts=[attempt for _, attempt in attempts])
            for count, answers in zip(counts, self._threads.map(connect, self.beds), strict=True):
                count.update(
                    item for (item, _), answer in zip(attempts, answers, strict=True) if answer.kind == "dropped"
                )
        return counts

    def _attempt(self, question: Question) -> Attempt:
        """A client is an address that was not used before wherever one may be remembered."""
        six = ":" in question.target
        number = next(self._clients) if question.affine else 1
        high, low = divmod(number % 8000, 250)
        if question.client == NODE:
            source = ""
        elif question.client == ITSELF:
            source = PODS6[0] if six else PODS[0]
        elif question.client == POD:
            source = f"fd00:1::64:{number:x}" if six else f"10.1.{64 + high}.{low + 1}"
        else:
            source = f"fd00:9::{number:x}" if six else f"192.168.{high + 128 * (number % 2)}.{low + 1}"
        return Attempt(source, question.protocol, question.target, question.port)


def list_questions(objects: Objects, chance: random.Random) -> Iterator[Question]:
    """Every address and port of the Services, from each kind of client; a wrong port, an address of nobody."""
    for key in sorted(objects[0]):
        item = objects[0][key]
        spec = item["spec"]
        affine = spec.get("sessionAffinity") == "ClientIP"
        addresses = [ip for ip in spec["clusterIPs"] if ip != "None"]
        nodes = [NODE6 if ":" in ip else NODE4 for ip in addresses]
        addresses += spec.get("externalIPs", [])
        addresses += [ingress["ip"] for ingress in item["status"]["loadBalancer"].get("ingress", []) if "ip" in ingress]
        places = [(address, port["protocol"], port["port"]) for address in addresses for port in spec["ports"]]
        places += [
            (node, port["protocol"], port["nodePort"]) for node in nodes for port in spec["ports"] if "nodePort" in port
        ]
        if chance.random() < 0.3 and addresses:
            places += [
                (addresses[0], "TCP", 9),
                (
                    addresses[0].rpartition(":" if ":" in addresses[0] else ".")[0]
                    + (":99" if ":" in addresses[0] else ".99"),
                    "TCP",
                    80,
                ),
            ]
        for address, protocol, port in places:
            for client in (
                OUTSIDE,
                POD,
                *((NODE,) if not affine else ()),
                *((ITSELF,) if not affine and chance.random() < 0.3 else ()),
            ):
                yield Question(client, protocol, address, port, affine)


def _connect_bed(bed: Bed, attempts: Sequence[Attempt]) -> list[Answer]:
    return bed.connect(attempts, SHARE_WAIT_S)


def _ask_bed(
    bed: Bed, questions: Sequence[Question], attempts: Sequence[Attempt], wait_s: float
) -> tuple[list[Answer], list[Question]]:
    """One answer to each, and the questions that were dropped at first: they are asked once more with the same source.
    A client with affinity asks twice, and must not be moved."""
    answers = bed.connect(attempts, wait_s)
    dropped = [number for number, answer in enumerate(answers) if answer.kind == "dropped"]
    repeated = []
    for number, second in zip(dropped, bed.connect([attempts[number] for number in dropped], wait_s), strict=True):
        answers[number] = second
        if second.kind == "answered":
            repeated.append(questions[number])
    again = [number for number, question in enumerate(questions) if question.affine]
    for number, second in zip(again, bed.connect([attempts[number] for number in again], wait_s), strict=True):
        if second.kind == "answered" and second != answers[number]:
            answers[number] = Answer("moved")
    return [
        replace(answer, seen="the client's own") if answer.seen and answer.seen == attempt.source else answer
        for answer, attempt in zip(answers, attempts, strict=True)
    ], repeated


def drops_more_often(ours: int, theirs: int, tries: int = SHARE_TRIES) -> bool:
    """Whether either side drops more than the other's share explains, but for once in 10,000 times."""
    high, low = max(ours, theirs), min(ours, theirs)
    share = (low + 2) / (tries + 4)  # of so few tries it may as well have been this
    tail = sum(math.comb(tries, k) * share**k * (1 - share) ** (tries - k) for k in range(high, tries + 1))
    return tail < 1e-4


def _is_settled(ours: set[Answer], theirs: set[Answer], number: int) -> bool:
    return ours == theirs and (number >= LEAST or all(answer.kind != "answered" for answer in ours))


def _forget_lateness(seen: tuple[dict[Question, set[Answer]], ...], questions: Iterable[Question]) -> None:
    """Drops beside answers are told by their share; where nothing else was ever seen they stay."""
    for side in seen:
        for question in questions:
            if len({answer.kind for answer in side[question]}) > 1:
                side[question] = {answer for answer in side[question] if answer.kind != "dropped"}


def _show(answers: set[Answer]) -> str:
    return "; ".join(sorted(f"{item.kind} {item.endpoint} {item.seen}".strip() for item in answers))
