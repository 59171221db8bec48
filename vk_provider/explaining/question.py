"""One question, from its target to everything that is known of the connection.

The API server is asked for the Service and its EndpointSlices, or a pod of another node. What decides is read from the
compiled tables; what the objects say explains it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from vk_provider.errors import AgentError
from vk_provider.explain.facts import DnsFacts, Facts, Path, PodFacts, choose_address
from vk_provider.explain.services import ServiceView, ready_endpoints, view_service
from vk_provider.explain.target import Target, ask_port, parse_absolute
from vk_provider.explaining.pods import describe, describe_source, name_pod
from vk_provider.explaining.resolver import find_resolver
from vk_provider.explaining.sources import Sources
from vk_provider.jsontypes import Json
from vk_provider.netpolicy.judgement import Connection, Judgement
from vk_provider.netpolicy.policy import Direction
from vk_provider.pods.record import PodRecord
from vk_provider.serviceproxy.address import Family, family_of
from vk_provider.serviceproxy.frontend import Frontend
from vk_provider.serviceproxy.lookup import Destination, Route, TableView
from vk_provider.serviceproxy.service import PROTOCOLS
from vk_provider.wire.inbound import WireError
from vk_provider.wire.tables import PolicyDrops, TablesAnswer

MAX_FOLLOWED = 4
"""ExternalNames that name each other."""
MAX_DROPS = 2
"""Other pods whose agents are asked what their policies have dropped."""
OUTSIDE = {Family.IPV4: "192.0.2.1", Family.IPV6: "2001:db8::1"}
"""Addresses for documentation: they stand for those outside that are not known."""


class Question:
    """One question, from its target to what is known about it."""

    def __init__(self, sources: Sources, record: PodRecord, written: str, target: Target) -> None:
        self._sources, self._record, self._target = sources, record, target
        self._network = sources.network
        self._own = sources.own_pods()
        self._source = describe_source(record, self._network.zone_of(record))
        families = self._source.pod.families
        self._family = families[0] if families else Family.IPV4
        self._table: TableView | None = None
        self._foreign: dict[str, PodFacts] = {}
        self._facts = Facts(self._source, written, target, target.protocol or "TCP", self._family)

    async def ask(self) -> Facts:
        await self._read_target()
        pod = self._source.pod
        if pod.addresses and not pod.has_ended:
            self._table = await self._read_table()
            await self._find_owner()
            await self._network.policies.settle()
            await self._find_paths()
            await self._ask_agents()
        return self._facts

    def _know(self, **found: object) -> None:
        self._facts = replace(self._facts, **found)  # type: ignore[arg-type]

    def _use_family(self, wanted: Iterable[Family]) -> None:
        """The pod's first one that is wanted; without one it stays as it is."""
        self._family = next((family for family in self._source.pod.families if family in wanted), self._family)
        self._know(family=self._family)

    # What is meant.

    async def _read_target(self) -> None:
        target = self._target
        if target.kind == "service":
            await self._read_service(target, ())
        elif target.kind == "pod":
            pod = await self._sources.read_pod(target.namespace, target.name)
            self._use_family(pod.families)
            address = pod.address_in(self._family) or "".join(pod.addresses[:1])
            self._know(pod=pod, frontend=self._frontend(address, target.number) if address else None)
            self._foreign |= dict.fromkeys(pod.addresses, pod)
        elif target.kind == "address":
            self._use_family((family_of(target.address),))
        else:
            self._know_outside(target)

    async def _read_service(self, target: Target, followed: tuple[str, ...]) -> None:
        found = await self._sources.read_service(target.namespace, target.name)
        if found is None and target.outside and not followed:
            self._know_outside(replace(target, kind="name", name=target.outside, namespace=""))
            return
        if found is None:
            self._know(view=None, target=replace(target, kind="service"), followed=followed)
            return
        view = self._view(found, target)
        self._know(view=view, protocol=view.port.protocol, followed=followed)
        if view.kind == "ExternalName":
            following = parse_absolute(view.external_name, self._sources.cluster.domain)
            if following is not None and len(followed) == MAX_FOLLOWED:
                self._know(is_loop=True)
            elif following is not None:
                port = target.port if target.number else str(view.port.number)
                await self._read_service(
                    replace(following, port=port, protocol=target.protocol), (*followed, f"ExternalName {view.key}")
                )
            return
        self._name_pods(view)
        address = view.address_of(self._family)
        if view.kind != "headless" and address:
            self._know(frontend=Frontend(self._family, address, PROTOCOLS[view.port.protocol], view.port.number))

    def _know_outside(self, target: Target) -> None:
        """A name that is not the cluster's."""
        self._know(target=target, other_family="may have" if len(self._source.pod.families) > 1 else "")

    def _view(self, found: tuple[Json, list[Json]], target: Target) -> ServiceView:
        """In the first family of the pod's in which the name has an address, as far as it is known here."""
        views = {family: view_service(*found, target, family) for family in self._source.pod.families}
        named = [family for family, view in views.items() if _has_address(view, family)]
        self._use_family(named)
        view = views.get(self._family) or view_service(*found, target, self._family)
        is_outside = view.kind == "ExternalName"
        self._know(other_family=("may have" if is_outside else "has") if len(named) > 1 else "")
        return view

    def _name_pods(self, view: ServiceView) -> None:
        self._foreign |= {
            item.endpoint.address: name_pod(item.pod, item.endpoint.node, item.endpoint.address)
            for item in view.endpoints
            if item.pod
        }

    def _frontend(self, address: str, number: int) -> Frontend:
        if not number:
            raise ask_port(self._facts.written)
        return Frontend(family_of(address), address, PROTOCOLS[self._facts.protocol], number)

    async def _read_table(self) -> TableView | None:
        table = self._network.service_table(self._record)
        self._know(has_table=table is not None)
        if table is None:
            return None
        places = (*self._network.node_addresses, *self._source.instance_addresses)
        return await asyncio.to_thread(
            TableView, table, self._source.pod.addresses, places
        )  # milliseconds for thousands of Services

    async def _find_owner(self) -> None:
        """Of an address: the Service that it belongs to, or the pod."""
        target = self._target
        if target.kind != "address":
            return
        is_node = target.address in self._network.node_addresses
        number = target.number or await self._find_only_port(target)
        frontend = self._frontend(target.address, number)
        self._know(frontend=frontend, is_node_address=is_node)
        route = self._route(frontend)
        if route is not None and "/" in route.owner:
            await self._read_owner(route.owner, frontend, is_node)
        elif route is None or route.outcome == "direct":
            record = self._own.get(target.address)
            pod = describe(record) if record is not None else None
            if pod is None and not is_node:
                pod = await self._sources.find_pod(target.address)
            self._know(pod=pod)
            if pod is not None:
                self._foreign[target.address] = pod

    async def _find_only_port(self, target: Target) -> int:
        """Of a Service whose address was given without the number of a port; 0 when it is nobody's."""
        owner = self._table.owner_of(target.address) if self._table is not None else ""
        found = await self._sources.read_service(*owner.split("/", 1)) if "/" in owner else None
        if found is None:
            return 0
        port = view_service(*found, target, self._family).port
        self._know(protocol=port.protocol)
        return port.number

    async def _read_owner(self, key: str, frontend: Frontend, is_node: bool) -> None:
        """What the Service says of itself, at the port of it that this frontend is."""
        found = await self._sources.read_service(*key.split("/", 1))
        if found is None:
            return
        port = frontend.port
        if is_node:
            for item in (found[0].get("spec") or {}).get("ports") or []:
                if item.get("nodePort") == frontend.port:
                    port = item["port"]
        target = replace(self._target, port=str(port), protocol=self._facts.protocol)
        view = view_service(*found, target, self._family)
        self._know(view=view)
        self._name_pods(view)

    # Where it goes.

    def _route(self, frontend: Frontend) -> Route | None:
        return self._table.route(frontend) if self._table is not None else None

    async def _find_paths(self) -> None:
        facts = self._facts
        view, frontend = facts.view, facts.frontend
        if view is not None and view.kind == "headless":
            number, ready = self._target.number, ready_endpoints(view)
            places = [Destination(item.endpoint.address, number or item.endpoint.port) for item in ready]
            await self._set_paths(places, masqueraded=False)
        elif frontend is not None and frontend.family == self._family:
            route = self._route(frontend)
            self._know(route=route)
            if route is None or route.outcome == "direct":
                await self._set_paths([Destination(frontend.address, frontend.port)], masqueraded=False)
            elif route.outcome == "chosen":
                await self._set_paths(route.endpoints, masqueraded=route.is_masqueraded)
        elif facts.target.kind == "name" or (view is not None and view.kind == "ExternalName"):
            number = self._target.number or (view.port.number if view is not None else 0)
            if not number:
                raise ask_port(facts.written)
            self._know(is_outside=True)
            await self._set_paths([Destination(OUTSIDE[self._family], number)], masqueraded=False)
        if facts.target.is_name:
            self._ask_dns()

    async def _set_paths(self, places: Iterable[Destination], *, masqueraded: bool) -> None:
        """Each is a look at two tables of policies, which may have thousands of peers: others get their turn between
        them."""
        protocol = PROTOCOLS[self._facts.protocol]
        paths: list[Path] = []
        for place in places:
            paths.append(self._path(place, protocol, masqueraded))
            await asyncio.sleep(0)
        rules = {
            (said.rule.policy, direction, said.rule.number): self._network.policies.describe_rule(direction, said.rule)
            for path in paths
            for direction, said in _directions(path)
            if said is not None and said.rule is not None
        }
        self._know(paths=tuple(paths), rules=rules)

    def _path(self, place: Destination, protocol: int, masqueraded: bool) -> Path:
        source = self._source.pod
        if place.address in source.addresses:
            return Path(place, source, None, None, place.address)
        record = self._own.get(place.address)
        pod = describe(record) if record is not None else self._foreign.get(place.address)
        judge = self._network.policies.judge
        judged: dict[Direction, tuple[PodFacts, Judgement | None]] = {}
        if not source.host_network and place.address not in self._source.instance_addresses:
            judged["egress"] = source, judge(source.uid, Connection("egress", place.address, protocol, place.port))
        family = family_of(place.address)
        own = source.address_in(family)
        seen_as = (choose_address(self._source.instance_addresses, family) or own) if masqueraded else own
        if pod is not None and pod.is_ours and not pod.host_network:
            judged["ingress"] = pod, judge(pod.uid, Connection("ingress", seen_as, protocol, place.port))
        said = {direction: judgement for direction, (_, judgement) in judged.items()}
        unjudged = frozenset(asked.key for asked, judgement in judged.values() if judgement is None)
        return Path(place, pod, said.get("egress"), said.get("ingress"), seen_as, unjudged)

    def _ask_dns(self) -> None:
        """Whether the pod's resolver reaches the cluster's DNS, as far as it asks that. What is not compiled yet is not
        in its way: `paths` tell of that."""
        resolver = find_resolver(self._record.pod, self._sources.cluster, self._source.pod.families)
        self._know(other_dns=resolver.why_not, is_dns_own=resolver.is_own)
        server = resolver.server
        if not server:
            return
        route = self._route(Frontend(family_of(server), server, PROTOCOLS["UDP"], 53)) or Route("direct")
        places = (
            route.endpoints
            if route.outcome == "chosen"
            else (Destination(server, 53),)
            if route.outcome == "direct"
            else ()
        )
        paths = [self._path(place, PROTOCOLS["UDP"], route.is_masqueraded) for place in places]
        self._know(dns=DnsFacts(server, route, not paths or any(path.is_open for path in paths)))

    # What the kernels say.

    async def _ask_agents(self) -> None:
        facts = self._facts
        closed: dict[str, PodRecord] = {}
        for path in facts.paths:
            record = self._own.get(path.place.address)
            if record is not None and path.ingress is not None and not path.ingress.allowed:
                closed[record.uid] = record
        others = list(closed.values())[:MAX_DROPS]
        frontend = facts.frontend
        own, *found = await asyncio.gather(
            self._try_agent(self._record, frontend.address if frontend is not None else ""),
            *(self._try_agent(record, "") for record in others),
        )
        drops: dict[str, PolicyDrops] = {
            record.uid: answer["drops"]
            for record, answer in zip(others, found, strict=True)
            if not isinstance(answer, str) and "drops" in answer
        }
        if isinstance(own, str):
            self._know(silent=own, drops=drops)
        else:
            self._know(answer=own, drops=drops)

    async def _try_agent(self, record: PodRecord, address: str) -> TablesAnswer | str:
        try:
            return await self._sources.ask_agent(record, address)
        except WireError as error:
            return f"the pod's agent answers with what it may not say ({error})"
        except AgentError as error:
            return str(error)


def _has_address(view: ServiceView, family: Family) -> bool:
    """Whether DNS answers with one; of an ExternalName it may."""
    if view.kind == "headless":
        return bool(ready_endpoints(view))
    return view.kind == "ExternalName" or bool(view.address_of(family))


def _directions(path: Path) -> tuple[tuple[Direction, Judgement | None], ...]:
    return ("egress", path.egress), ("ingress", path.ingress)
