"""The chains that verdicts name: one for each number of endpoints, shared by all Services with so many. Pure.

The name says what is in the chain, so a chain that is left over is never wrong, only unused:
    [nodeport-]cluster4-3         one of the 3 endpoints under the policy Cluster
    [nodeport-]local4-2           one of the Node's 2 endpoints
    [nodeport-]external4-3        the same as cluster, masqueraded
    ...-10800                     with affinity: the client's endpoint of the last 10800 seconds, else any

The number that was drawn travels in the packet's priority (affinity.py): so the maps have types that nft can read back.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

LOCAL_OFFSET = 32768
"""The first slot of the Node's own endpoints in the maps that hold both lists."""
MASQUERADE_MARK = "0x2000"
"""A bit of the packet's mark; kube-proxy has 0x4000, and both can be on one machine."""
AFFINITY_SEED = "0x76"
"""Of the hash over client and Service port: fixed, or each rule would have its own."""

_NAME = re.compile(r"(nodeport-)?(cluster|local|external)([46])-(\d+)(?:-(\d+))?")


def name_chain(prefix: str, kind: str, family: int, count: int, affinity_s: int) -> str:
    return f"{prefix}{kind}{family}-{count}{f'-{affinity_s}' if affinity_s else ''}"


class CountedChain(NamedTuple):
    """kind: "cluster", "local" or "external"; size: number of endpoints; affinity_s: 0 without."""

    prefix: str
    kind: str
    size: int
    affinity_s: int


def parse_chain(name: str) -> CountedChain | None:
    """What a name says; None for a chain of the table's frame."""
    matched = _NAME.fullmatch(name)
    if matched is None:
        return None
    prefix, kind, _, count, affinity_s = matched.groups(default="")
    return CountedChain(prefix, kind, int(count), int(affinity_s or 0))


@lru_cache(maxsize=1024)
def is_counted(chain: str) -> bool:
    """Whether it is one of this module's, and not of the table's frame."""
    return _NAME.fullmatch(chain) is not None


def write_chains(names: frozenset[str], table: str) -> list[str]:
    """nft commands that make the chains in `table`, whether they are there already or not."""
    wanted = set(names)
    wanted |= {name.replace("external", "cluster") for name in names if "external" in name}
    lines: list[str] = []
    for name in sorted(wanted):  # cluster before external, which goes there
        lines += [f"add chain inet {table} {name}", f"flush chain inet {table} {name}"]
        lines += [f"add rule inet {table} {name} {rule}" for rule in _rules(name)]
    return lines


def _rules(name: str) -> list[str]:
    matched = _NAME.fullmatch(name)
    if matched is None:
        raise ValueError(f"no chain of endpoints: {name}")
    prefix, kind, family, count, affinity_s = matched.groups(default="")
    ip = "ip" if family == "4" else "ip6"
    key = f"{ip} daddr . meta l4proto . th dport" if not prefix else "meta l4proto . th dport"
    if kind == "external":
        return [f"meta mark set meta mark or {MASQUERADE_MARK}", f"goto {name.replace('external', 'cluster')}"]
    slot = f"meta priority set numgen random mod {count}" + (f" offset {LOCAL_OFFSET}" if kind == "local" else "")
    dnat = f"meta l4proto {{ 6, 17, 132 }} dnat {ip} to"
    if not affinity_s:
        return [f"{slot} {dnat} meta priority . {key} map @{prefix}endpoints{family}"]
    clients = f"@affinity-clients{family}"
    port = f"ct mark set {key} map @{prefix}affinity{family}"
    client = f"ct mark set jhash {ip} saddr . ct mark mod 4294967295 seed {AFFINITY_SEED}"
    remember = f"update {clients} {{ ct mark timeout {affinity_s}s : meta priority }}"
    found = f"{dnat} ct mark . meta priority map @affinity-{'local-' if kind == 'local' else ''}endpoints{family}"
    return [
        f"{port} {client} meta priority set ct mark map {clients} {remember}",
        f"{port} {found}",
        # Not known, or its endpoint is gone. An update would only prolong what is there.
        f"{port} {client} delete {clients} {{ ct mark : meta priority }}",
        f"{port} {slot} meta priority set meta priority . ct mark map @affinity-picks{family} {client} {remember}",
        f"{port} {found}",
    ]
