"""One question, from its target to everything that is known of the connection.

The API server is asked for the Service and its EndpointSlices, or a pod of another node. What decides is read from the
compiled tables; what the objects say explains it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from vk_provider.explain.facts import DnsFacts, Facts, KernelFacts
from vk_provider.explain.services import ServiceView, ready_endpoints, view_service
from vk_provider.explain.target import Target, ask_port, parse_absolute
from vk_provider.explaining.kernels import ask_kernels, find_closed
from vk_provider.explaining.paths import PathFinder
from vk_provider.explaining.pods import describe, describe_source, name_pod
from vk_provider.explaining.resolver import find_resolver
from vk_provider.explaining.sources import Sources
from vk_provider.jsontypes import Json
from vk_provider.pods.record import PodRecord
from vk_provider.serviceproxy.address import Family, family_of
from vk_provider.serviceproxy.frontend import Frontend
from vk_provider.serviceproxy.lookup import Destination, Route, TableView
from vk_provider.serviceproxy.service import PROTOCOLS

MAX_FOLLOWED = 4
"""ExternalNames that name each other."""
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
        self._paths = PathFinder(self._source, self._own, self._network.policies)
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

    def _use_family(self, wanted: Iterable[Family]) -> None:
        """The pod's first one that is wanted; without one it stays as it is."""
        self._family = next((family for family in self._source.pod.families if family in wanted), self._family)
        self._facts = replace(self._facts, family=self._family)

    def _note_name(self, **known: Any) -> None:
        """known: fields of Resolution."""
        self._facts = replace(self._facts, resolution=replace(self._facts.resolution, **known))

    # What is meant.

    async def _read_target(self) -> None:
        target = self._target
        if target.kind == "service":
            await self._read_service(target, ())
        elif target.kind == "pod":
            pod = await self._sources.read_pod(target.namespace, target.name)
            self._use_family(pod.families)
            address = pod.address_in(self._family) or "".join(pod.addresses[:1])
            self._facts = replace(
                self._facts, pod=pod, frontend=self._frontend(address, target.number) if address else None
            )
            self._paths.note_pods(dict.fromkeys(pod.addresses, pod))
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
            self._facts = replace(self._facts, view=None, target=replace(target, kind="service"))
            self._note_name(followed=followed)
            return
        view = self._view(found, target)
        self._facts = replace(self._facts, view=view, protocol=view.port.protocol)
        self._note_name(followed=followed)
        if view.kind == "ExternalName":
            following = parse_absolute(view.external_name, self._sources.cluster.domain)
            if following is not None and len(followed) == MAX_FOLLOWED:
                self._note_name(is_loop=True)
            elif following is not None:
                port = target.port if target.number else str(view.port.number)
                await self._read_service(
                    replace(following, port=port, protocol=target.protocol), (*followed, f"ExternalName {view.key}")
                )
            return
        self._name_pods(view)
        address = view.address_of(self._family)
        if view.kind != "headless" and address:
            self._facts = replace(
                self._facts, frontend=Frontend(self._family, address, PROTOCOLS[view.port.protocol], view.port.number)
            )

    def _know_outside(self, target: Target) -> None:
        """A name that is not the cluster's."""
        self._facts = replace(self._facts, target=target)
        self._note_name(other_family="may have" if len(self._source.pod.families) > 1 else "")

    def _view(self, found: tuple[Json, list[Json]], target: Target) -> ServiceView:
        """In the first family of the pod's in which the name has an address, as far as it is known here."""
        views = {family: view_service(*found, target, family) for family in self._source.pod.families}
        named = [family for family, view in views.items() if _has_address(view, family)]
        self._use_family(named)
        view = views.get(self._family) or view_service(*found, target, self._family)
        is_outside = view.kind == "ExternalName"
        self._note_name(other_family=("may have" if is_outside else "has") if len(named) > 1 else "")
        return view

    def _name_pods(self, view: ServiceView) -> None:
        self._paths.note_pods(
            {
                item.endpoint.address: name_pod(item.pod, item.endpoint.node, item.endpoint.address)
                for item in view.endpoints
                if item.pod
            }
        )

    def _frontend(self, address: str, number: int) -> Frontend:
        if not number:
            raise ask_port(self._facts.written)
        return Frontend(family_of(address), address, PROTOCOLS[self._facts.protocol], number)

    async def _read_table(self) -> TableView | None:
        table = self._network.service_table(self._record)
        self._facts = replace(self._facts, has_table=table is not None)
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
        self._facts = replace(self._facts, frontend=frontend, is_node_address=is_node)
        route = self._route(frontend)
        if route is not None and "/" in route.owner:
            await self._read_owner(route.owner, frontend, is_node)
        elif route is None or route.outcome == "direct":
            record = self._own.get(target.address)
            pod = describe(record) if record is not None else None
            if pod is None and not is_node:
                pod = await self._sources.find_pod(target.address)
            self._facts = replace(self._facts, pod=pod)
            if pod is not None:
                self._paths.note_pods({target.address: pod})

    async def _find_only_port(self, target: Target) -> int:
        """Of a Service whose address was given without the number of a port; 0 when it is nobody's."""
        owner = self._table.owner_of(target.address) if self._table is not None else ""
        found = await self._sources.read_service(*owner.split("/", 1)) if "/" in owner else None
        if found is None:
            return 0
        port = view_service(*found, target, self._family).port
        self._facts = replace(self._facts, protocol=port.protocol)
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
        self._facts = replace(self._facts, view=view)
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
            self._facts = replace(self._facts, route=route)
            if route is None or route.outcome == "direct":
                await self._set_paths([Destination(frontend.address, frontend.port)], masqueraded=False)
            elif route.outcome == "chosen":
                await self._set_paths(route.endpoints, masqueraded=route.is_masqueraded)
        elif facts.target.kind == "name" or (view is not None and view.kind == "ExternalName"):
            number = self._target.number or (view.port.number if view is not None else 0)
            if not number:
                raise ask_port(facts.written)
            self._facts = replace(self._facts, is_outside=True)
            await self._set_paths([Destination(OUTSIDE[self._family], number)], masqueraded=False)
        if facts.target.is_name:
            self._ask_dns()

    async def _set_paths(self, places: Iterable[Destination], *, masqueraded: bool) -> None:
        paths = await self._paths.find_all(places, PROTOCOLS[self._facts.protocol], masqueraded=masqueraded)
        self._facts = replace(self._facts, paths=paths, rules=self._paths.describe_rules(paths))

    def _ask_dns(self) -> None:
        """Whether the pod's resolver reaches the cluster's DNS, as far as it asks that. What is not compiled yet is not
        in its way: `paths` tell of that."""
        resolver = find_resolver(self._record.pod, self._sources.cluster, self._source.pod.families)
        self._note_name(other_dns=resolver.why_not, is_dns_own=resolver.is_own)
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
        paths = [self._paths.find(place, PROTOCOLS["UDP"], masqueraded=route.is_masqueraded) for place in places]
        self._note_name(dns=DnsFacts(server, route, not paths or any(path.is_open for path in paths)))

    # What the kernels say.

    async def _ask_agents(self) -> None:
        frontend = self._facts.frontend
        closed = find_closed(self._facts.paths, self._own)
        address = frontend.address if frontend is not None else ""
        said, drops = await ask_kernels(self._sources, self._record, address, closed)
        kernel = KernelFacts(None, said, drops) if isinstance(said, str) else KernelFacts(said, "", drops)
        self._facts = replace(self._facts, kernel=kernel)


def _has_address(view: ServiceView, family: Family) -> bool:
    """Whether DNS answers with one; of an ExternalName it may."""
    if view.kind == "headless":
        return bool(ready_endpoints(view))
    return view.kind == "ExternalName" or bool(view.address_of(family))
