"""Everything that is known of one connection before it is judged. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vk_provider.explain.services import ServiceView
from vk_provider.explain.target import Target
from vk_provider.netpolicy.judgement import Judgement
from vk_provider.netpolicy.peer import TERMINATED
from vk_provider.serviceproxy.address import Family, family_of
from vk_provider.serviceproxy.frontend import Frontend
from vk_provider.serviceproxy.lookup import Destination, Route
from vk_provider.wire.tables import PolicyDrops, TableName, TablesAnswer


def choose_address(addresses: Iterable[str], family: Family) -> str:
    """The first of the family; "" without one."""
    return next((address for address in addresses if family_of(address) is family), "")


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod. addresses: one a family, the primary one first, none while it has none; is_ours: this provider compiles
    its policies."""

    namespace: str
    name: str
    node: str
    phase: str
    addresses: tuple[str, ...]
    is_ours: bool
    host_network: bool = False
    uid: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def families(self) -> tuple[Family, ...]:
        return tuple(map(family_of, self.addresses))

    def address_in(self, family: Family) -> str:
        """ "" when it has none of the family."""
        return choose_address(self.addresses, family)

    @property
    def has_ended(self) -> bool:
        return self.phase in TERMINATED


@dataclass(frozen=True, slots=True)
class TableState:
    """newest: compiled; in_force: by the agent's word; behind_s: for how long it is out of date; held_s: for how long
    the agent is known to have that one."""

    name: TableName
    newest: str
    in_force: str
    behind_s: float
    held_s: float


@dataclass(frozen=True, slots=True)
class Source:
    """The pod that asks. instance: its ID, "" without one; instance_addresses: what masqueraded connections come from;
    tables: of the open session, none without one."""

    pod: PodFacts
    instance: str
    instance_addresses: tuple[str, ...]
    zone: str
    tables: tuple[TableState, ...]


@dataclass(frozen=True, slots=True)
class Path:
    """One way that the connection may take, and what policies say of it.

    pod:     who has the address, None for nobody's
    egress:  of the source; ingress: of `pod`. None where no policy has a part: the pod itself, hostNetwork, a pod that
             another node's network enforces policies for
    seen_as: the address that the other end sees
    unjudged: pods (namespace/name) whose policies have a part and are not compiled yet
    """

    place: Destination
    pod: PodFacts | None
    egress: Judgement | None
    ingress: Judgement | None
    seen_as: str
    unjudged: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        return all(said is None or said.allowed for said in (self.egress, self.ingress))


@dataclass(frozen=True, slots=True)
class DnsFacts:
    """The cluster's DNS server as the pod's resolver asks it: UDP 53. is_open: policies let the question through;
    route: where it goes."""

    server: str
    route: Route
    is_open: bool


@dataclass(frozen=True, slots=True)
class Resolution:
    """How the pod gets from a name to its addresses.

    followed:     ExternalNames within the cluster that led to the Service
    is_loop:      they lead to each other, further than they are followed
    other_family: "has" when the name has addresses of the pod's other family, too; "may have" when that is not known
    other_dns:    the pod's dnsPolicy, for which it does not ask the cluster's DNS for the name; "" when it does
    is_dns_own:   it asks servers of its dnsConfig, which may be the cluster's
    dns:          None when no name is asked for, or the pod does not ask the cluster's DNS
    """

    followed: tuple[str, ...] = ()
    is_loop: bool = False
    other_family: Literal["", "has", "may have"] = ""
    other_dns: str = ""
    is_dns_own: bool = False
    dns: DnsFacts | None = None


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """answer: of the agent of the source; silent: why there is none
    drops: by UID, of other pods whose policies drop the connection
    """

    answer: TablesAnswer | None = None
    silent: str = ""
    drops: dict[str, PolicyDrops] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """written:   TARGET as it was written
    protocol:  its name
    family:    that the connection is made in
    view:      the Service that is meant or has the address; None for none
    frontend:  what the pod's connection goes to; None when there is no address: an unknown name, ExternalName, headless
    route:     what the compiled table does with it; None without frontend, or without a table
    pod:       the pod that is meant, or that has the address
    paths:     where it may arrive
    is_node_address: the address is a Node's
    is_outside: the path stands for addresses outside of the cluster, as the name's is not known
    has_table: whether the provider has compiled a table of Services
    rules:     (policy, direction, number) -> the rule in words
    """

    source: Source
    written: str
    target: Target
    protocol: str
    family: Family = Family.IPV4
    view: ServiceView | None = None
    frontend: Frontend | None = None
    route: Route | None = None
    pod: PodFacts | None = None
    paths: Sequence[Path] = ()
    is_node_address: bool = False
    is_outside: bool = False
    has_table: bool = True
    rules: dict[tuple[str, str, int], str] = field(default_factory=dict)
    resolution: Resolution = Resolution()
    kernel: KernelFacts = field(default_factory=KernelFacts)

    @property
    def unjudged(self) -> frozenset[str]:
        """Of all paths."""
        return frozenset[str]().union(*(path.unjudged for path in self.paths))

    @property
    def source_address(self) -> str:
        """What the pod's connection comes from; "" while the pod has no address."""
        addresses = self.source.pod.addresses
        return choose_address(addresses, self.family) or "".join(addresses[:1])
