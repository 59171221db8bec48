"""The answer as JSON: what the provider sends and `-o json` prints."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

Outcome = Literal["connects", "sometimes", "refused", "dropped", "unresolved", "impossible", "unknown"]
"""sometimes: some of the endpoints; unresolved: the name has no address; impossible: the pod cannot ask at all;
unknown: what decides is not compiled yet."""


class TableDocument(TypedDict):
    """Revisions, "" for none. behindSeconds: for how long the instance is out of date; heldSeconds: for how long it is
    known to have the one that is in force."""

    name: str
    newest: str
    inForce: str
    behindSeconds: float
    heldSeconds: float


class SourceDocument(TypedDict):
    """agent: "" when it answers, else why not."""

    namespace: str
    name: str
    node: str
    phase: str
    address: str
    hostNetwork: bool
    instance: str
    tables: list[TableDocument]
    agent: str


class TargetDocument(TypedDict):
    """kind: Service, Pod, Address, ExternalName, Name, Host port; text: in words."""

    written: str
    kind: str
    name: str
    address: str
    port: int
    protocol: str
    text: str


class EndpointDocument(TypedDict):
    address: str
    port: int
    pod: str
    node: str
    used: bool
    why: str


class PolicyDocument(TypedDict):
    """What the policies of one pod say.

    endpoints:  the "address:port" that it is about
    isolatedBy: policies, none when everything is allowed
    rule, text: the one that allows it, "" for none; text without rule: why nothing is allowed
    drops:      packets that the kernel has dropped for all policies of the pod in the direction; null: not known
    """

    direction: Literal["egress", "ingress"]
    pod: str
    endpoints: list[str]
    isolatedBy: list[str]
    allowed: bool
    rule: str
    text: str
    drops: int | None


class SeenDocument(TypedDict):
    """Connections that the instance tracks now, to the address and port."""

    connections: int
    answered: int
    byEndpoint: dict[str, int]


class VerdictDocument(TypedDict):
    """connects: whatever endpoint is chosen; next: the step to take, "" when there is none."""

    outcome: Outcome
    connects: bool
    text: str
    next: str


class Explanation(TypedDict):
    source: SourceDocument
    target: TargetDocument
    endpoints: list[EndpointDocument]
    policies: list[PolicyDocument]
    seen: NotRequired[SeenDocument]
    notes: list[str]
    verdict: VerdictDocument
