"""The compiled policies of one pod at one moment, and the difference between two moments. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vk_provider.netpolicy.ports import Ports
from vk_provider.serviceproxy.fragment import Element

Key = tuple[str, str]
"""(map, key within it)."""


@dataclass(frozen=True, slots=True)
class Table:
    """revision: 128 bits in the form of an IPv6 address, from the content alone: pods with the same rules have the same
    verdicts: the elements of the maps
    chains:   the chains that verdicts go to (ports.name_ports), and what they accept
    base, changed: revision of the table that was made before this one of the same policies, and the keys that differ
    """

    revision: str
    verdicts: Mapping[Key, str]
    chains: Mapping[str, Ports]
    base: str = ""
    changed: frozenset[Key] = frozenset()

    def elements(self) -> Iterator[Element]:
        for (container, key), verdict in self.verdicts.items():
            yield Element(container, key, verdict)


@dataclass(frozen=True, slots=True)
class Delta:
    """What makes a table of `base` one of `revision`. gone: chains that no verdict names any more."""

    base: str
    revision: str
    removed: tuple[Element, ...]
    added: tuple[Element, ...]
    chains: Mapping[str, Ports]
    gone: frozenset[str]


def diff_tables(old: Table, new: Table) -> Delta:
    """From the table before it costs what has changed, from another one a look at each element."""
    keys = new.changed if new.base == old.revision else old.verdicts.keys() | new.verdicts.keys()
    removed: list[Element] = []
    added: list[Element] = []
    for key in sorted(keys):
        before, after = old.verdicts.get(key), new.verdicts.get(key)
        if before == after:
            continue
        if before is not None:
            removed.append(Element(*key, before))
        if after is not None:
            added.append(Element(*key, after))
    return Delta(
        base=old.revision,
        revision=new.revision,
        removed=tuple(removed),
        added=tuple(added),
        chains={name: ports for name, ports in new.chains.items() if name not in old.chains},
        gone=frozenset(old.chains.keys() - new.chains.keys()),
    )
