"""The subject's table in the node's namespace of a bed, applied as an agent would, and connections tried."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from tests.integration.serviceproxy.bed import Bed
from tests.integration.serviceproxy.clients import Answer, Attempt
from tests.policy_words import allows
from tests.policy_worlds import CLIENTS, PEERS4, PEERS6, PORTS, SUBJECT, SUBJECT4, SUBJECT6, World
from tests.unit.netpolicy.reading import IndexedWorld
from vk_provider.aiokit.nft import list_revision, parse_revision
from vk_provider.netpolicy.nft import TABLE, render_delta, render_pod, render_table
from vk_provider.netpolicy.table import Table, diff_tables

Question = tuple[str, str, str, int]
"""Direction, peer, protocol, port of who answers."""
PODS = (SUBJECT4, SUBJECT6)
PATIENCE_S = (0.3, 1.5, 4.0)
"""What was not as it should be is tried again, with more time: a machine may be slow."""


def list_questions() -> Iterator[Question]:
    for protocol in ("TCP", "UDP"):
        for port in PORTS:
            for peer in (*PEERS4, *PEERS6, *CLIENTS):
                yield "ingress", peer, protocol, port
            for peer in (*PEERS4, *PEERS6):
                yield "egress", peer, protocol, port


QUESTIONS = tuple(list_questions())


class OurPolicies:
    """`set` brings the namespace up to date with a world, by a whole table at first and by deltas then."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self._indexed = IndexedWorld()
        self.table: Table | None = None

    def set(self, world: World) -> None:
        before, table = self.table, self._indexed.set(world)
        if before is None:
            self.bed.nft(render_table(table) + render_pod(PODS))
        elif table.revision != before.revision:
            self.bed.nft(render_delta(diff_tables(before, table)))
        self.table = table

    def revision(self) -> str:
        return parse_revision(self.bed.run_node("nft", *list_revision(TABLE)))

    def differences(self, world: World, questions: Sequence[Question] = QUESTIONS) -> list[str]:
        """Where the connections that are made are not those that the API's words allow."""
        wanted = {question: allows(world, SUBJECT, *question) for question in questions}
        open_questions = list(questions)
        answers: dict[Question, Answer] = {}
        for wait_s in PATIENCE_S:
            found = self.bed.connect([attempt(question) for question in open_questions], wait_s)
            answers = dict(zip(open_questions, found, strict=True))
            open_questions = [
                question for question in open_questions if wanted[question] != _is_made(answers[question])
            ]
            if not open_questions:
                return []
        return [
            f"{question}: {'allowed' if wanted[question] else 'denied'}, but {answers[question]}"
            for question in open_questions
        ]


def _is_made(answer: Answer) -> bool:
    assert answer.kind in ("answered", "dropped"), answer
    return answer.kind == "answered"


def attempt(question: Question) -> Attempt:
    direction, peer, protocol, port = question
    subject = SUBJECT6 if ":" in peer else SUBJECT4
    return Attempt(peer, protocol, subject, port) if direction == "ingress" else Attempt(subject, protocol, peer, port)


def shrink(bed: Bed, world: World, questions: Sequence[Question]) -> str:
    """The smallest world that still differs when its whole table is applied, as JSON with the difference."""
    found = _apply_alone(bed, world, questions)
    if not found:
        return "(this world does not differ when it is applied at once: it takes the changes)"
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(world):
            now = _apply_alone(bed, candidate, questions)
            if now:
                world, found, smaller = candidate, now, True
                break
    return json.dumps(vars(world), indent=1) + "\n" + "\n".join(found)


def _apply_alone(bed: Bed, world: World, questions: Sequence[Question]) -> list[str]:
    ours = OurPolicies(bed)
    ours.set(world)
    return ours.differences(world, questions)


def _candidates(world: World) -> Iterator[World]:
    for key in world.policies:
        made = world.copy()
        del made.policies[key]
        yield made
    for uid in world.pods.keys() - {SUBJECT}:
        made = world.copy()
        del made.pods[uid]
        yield made
    for key, policy in world.policies.items():
        for direction in ("ingress", "egress"):
            for place, rule in enumerate(policy["spec"].get(direction) or []):
                made = world.copy()
                del made.policies[key]["spec"][direction][place]
                yield made
                for name in ("from", "to", "ports"):
                    for number in range(len(rule.get(name) or []) if len(rule.get(name) or []) > 1 else 0):
                        made = world.copy()
                        del made.policies[key]["spec"][direction][place][name][number]
                        yield made
