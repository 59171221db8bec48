"""The compiled Services of a Node at one moment, and the difference between two moments. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vk_provider.jsontypes import share_text
from vk_provider.serviceproxy.chain import is_counted
from vk_provider.serviceproxy.fragment import Element, Fragment, UdpFrontend

_GOTO = re.compile(rb"\tgoto ([^\n]+)")


@dataclass(frozen=True, slots=True)
class Table:
    """revision:  128 bits in the form of an IPv6 address, from the content alone: the same Services and endpoints have
               the same revision after a restart of the provider, too
    fragments: by Service (namespace/name); a Service whose addresses are all another's has an empty one
    chains:    names of the chains that verdicts go to (chain.py)
    service_cidrs: canonical networks of the cluster's ServiceCIDRs
    base, changed: revision of the table that the index made before this one for the same zone, and the Services whose
               fragments differ from it: what makes a delta from there cheap
    """

    revision: str
    fragments: Mapping[str, Fragment]
    chains: frozenset[str]
    service_cidrs: tuple[str, ...]
    base: str
    changed: frozenset[str]

    def elements(self) -> Iterator[Element]:
        for fragment in self.fragments.values():
            yield from fragment.elements
        yield from cidr_elements(self.service_cidrs)

    def udp_frontends(self) -> Iterator[UdpFrontend]:
        """Every UDP frontend: for a look at all flows after a whole table was applied."""
        for fragment in self.fragments.values():
            yield from fragment.udp


@dataclass(frozen=True, slots=True)
class Delta:
    """What makes a table of `base` one of `revision`. udp: the frontends whose flows are to be looked at afterwards."""

    base: str
    revision: str
    removed: tuple[Element, ...]
    added: tuple[Element, ...]
    chains: frozenset[str]
    udp: tuple[UdpFrontend, ...]


def cidr_elements(networks: tuple[str, ...]) -> Iterator[Element]:
    for network in networks:
        yield Element(f"service-cidrs{6 if ':' in network else 4}", network)


def chains_of(fragment: Fragment) -> Iterator[str]:
    """The chains of endpoints that its verdicts name, as often as they do."""
    for name in _GOTO.findall(fragment.lines):
        chain = share_text(name.decode())
        if is_counted(chain):
            yield chain


def diff_tables(old: Table, new: Table) -> Delta:
    """From the table before it costs what has changed, from an older one a look at each Service."""
    keys = new.changed if new.base == old.revision else old.fragments.keys() | new.fragments.keys()
    removed: list[Element] = []
    added: list[Element] = []
    udp: list[UdpFrontend] = []
    for key in sorted(keys):
        before, after = old.fragments.get(key), new.fragments.get(key)
        if after is before:
            continue
        gone, come = _diff(before.elements if before else (), after.elements if after else ())
        removed += gone
        added += come
        known = set(before.udp) if before else set()
        udp += [item for item in (after.udp if after else ()) if item not in known]
    gone, come = _diff(tuple(cidr_elements(old.service_cidrs)), tuple(cidr_elements(new.service_cidrs)))
    return Delta(
        base=old.revision,
        revision=new.revision,
        removed=(*removed, *gone),
        added=(*added, *come),
        chains=new.chains - old.chains,
        udp=tuple(udp),
    )


def _diff(old: tuple[Element, ...], new: tuple[Element, ...]) -> tuple[list[Element], list[Element]]:
    before, after = set(old), set(new)
    return [element for element in old if element not in after], [element for element in new if element not in before]
