"""The frame of the nft table: sets, maps and base chains, the same whatever Services there are. Pure.

Per IP family (the digit at the end of a name); names are kube-proxy's where it has the same thing:
    service-ips, service-nodeports      frontend -> the chain that chooses an endpoint
    cluster-policy, local-policy        for frontends with externalTrafficPolicy Local: the two lists
    endpoints                           slot . frontend -> endpoint
    no-endpoint-services, -nodeports    frontend -> refuse, or drop when only other Nodes have endpoints
    cluster-ips, service-cidrs          addresses that are Services', so that a wrong port is refused
    firewall-ips, firewall-sources      loadBalancerSourceRanges
    affinity                            frontend -> number of the Service port
    affinity-picks                      slot . port -> number of an endpoint
    affinity-endpoints, -local-         port . endpoint -> its address
    affinity-clients                    hash of client and port -> endpoint, for a time: written by packets
    pods, hairpin-connections, nodeport-ips   what differs from one namespace to the next (Vantage)
What instances have beside that is in instance.py; the sets and maps for it are in every table.
"""

from __future__ import annotations

from vk_provider.serviceproxy import instance
from vk_provider.serviceproxy.affinity import TAG
from vk_provider.serviceproxy.chain import MASQUERADE_MARK

TABLE = "vk-services"
"""On an instance. Where several Nodes may share a network namespace, each table has a name of its own."""
NODE_TABLE_PREFIX = "vk-services_"
"""Of the names of the tables of Nodes on the machine that owns their addresses."""
MAX_AFFINITY_CLIENTS = 1 << 18
"""Clients that an instance remembers; the next ones get any endpoint until older ones time out."""

# Types by name, never `typeof` with `th dport`: nft 1.0.6 cannot read two of those back ("conflicting protocols
# specified"), and then refuses every further rule.
_PLACE, _NODEPORT = "{addr} . inet_proto . inet_service", "inet_proto . inet_service"
_ENDPOINT = "{addr} . inet_service"
_DEFINITIONS = {
    "service-ips": f"type {_PLACE} : verdict",
    "service-nodeports": f"type {_NODEPORT} : verdict",
    "cluster-policy": f"type {_PLACE} : verdict",
    "nodeport-cluster-policy": f"type {_NODEPORT} : verdict",
    "local-policy": f"type {_PLACE} : verdict",
    "nodeport-local-policy": f"type {_NODEPORT} : verdict",
    "endpoints": f"type classid . {_PLACE} : {_ENDPOINT}",
    "nodeport-endpoints": f"type classid . {_NODEPORT} : {_ENDPOINT}",
    "no-endpoint-services": f"type {_PLACE} : verdict",
    "no-endpoint-nodeports": f"type {_NODEPORT} : verdict",
    "firewall-ips": f"type {_PLACE} : verdict",
    "affinity": f"type {_PLACE} : mark",
    "nodeport-affinity": f"type {_NODEPORT} : mark",
    "affinity-picks": "type classid . mark : classid",
    "affinity-endpoints": f"type mark . classid : {_ENDPOINT}",
    "affinity-local-endpoints": f"type mark . classid : {_ENDPOINT}",
    "cluster-ips": "type {addr}",
    "service-cidrs": "type {addr} ; flags interval",
    "firewall-sources": f"type {_PLACE} . {{addr}} ; flags interval",
    "pods": "type {addr} ; flags interval ; auto-merge",
    "hairpin-connections": "type {addr} . {addr}",
    "nodeport-ips": "type {addr}",
    **instance.DEFINITIONS,
}
# Filled by packets: a new table does not empty it.
_CLIENTS = {"affinity-clients": "type mark : classid ; flags dynamic,timeout ; size " + str(MAX_AFFINITY_CLIENTS)}
_FAMILIES = ({"ip": "ip", "addr": "ipv4_addr", "v": "4"}, {"ip": "ip6", "addr": "ipv6_addr", "v": "6"})


# Priorities as numbers (dstnat -100, filter 0, srcnat 100): nft 1.0.6 knows dstnat by name in prerouting alone.
_BASE_CHAINS = {
    "filter-prerouting-pre-dnat": "type filter hook prerouting priority -110",
    "filter-output-pre-dnat": "type filter hook output priority -110",
    "nat-prerouting": "type nat hook prerouting priority -100",
    "nat-output": "type nat hook output priority -100",
    "filter-prerouting-post-dnat": "type filter hook prerouting priority -90",
    "filter-output-post-dnat": "type filter hook output priority -90",
    "filter-input": "type filter hook input priority 0",
    "filter-forward": "type filter hook forward priority 0",
    "filter-output": "type filter hook output priority 0",
    "filter-forward-unknown": "type filter hook forward priority 1",
    "filter-output-unknown": "type filter hook output priority 1",
    "nat-postrouting": "type nat hook postrouting priority 100",
}
_RULES: dict[str, tuple[str, ...]] = {
    "filter-prerouting-pre-dnat": ("ct state new jump firewall-check",),
    "filter-output-pre-dnat": ("ct state new jump firewall-check",),
    "nat-prerouting": ("jump services",),
    "nat-output": ("jump services",),
    # The numbers of affinity.py have done their work.
    "filter-prerouting-post-dnat": ("ct state new jump affinity-end",),
    "filter-output-post-dnat": ("ct state new jump affinity-end",),
    "affinity-end": (f"ct mark and 0xff000000 == {TAG:#x} ct mark set 0 meta priority set none",),
    "filter-input": ("ct state new jump nodeport-endpoints-check", "ct state new jump service-endpoints-check"),
    "filter-forward": ("ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"),
    "filter-output": ("ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"),
    # Tables of other Nodes and clusters may share the namespace and the Service networks: each of them refuses what it
    # knows before one that does not know it drops it.
    "filter-forward-unknown": ("ct state new jump unknown-ips-check",),
    "filter-output-unknown": ("ct state new jump unknown-ips-check",),
    "reject-chain": ("reject",),
    "nat-postrouting": (
        f"meta mark and {MASQUERADE_MARK} != 0 meta mark set meta mark xor {MASQUERADE_MARK} masquerade fully-random",
    ),
}
_FAMILY_RULES: dict[str, tuple[str, ...]] = {
    "firewall-check": ("{ip} daddr . meta l4proto . th dport vmap @firewall-ips{v}",),
    "firewall{v}": ("{ip} daddr . meta l4proto . th dport . {ip} saddr @firewall-sources{v} return", "drop"),
    "services": (
        # From outside the cluster: the answer must pass here again.
        f"{{ip}} daddr @cluster-ips{{v}} {{ip}} saddr != @pods{{v}} meta mark set meta mark or {MASQUERADE_MARK}",
        "{ip} daddr . meta l4proto . th dport vmap @service-ips{v}",
        "{ip} daddr @nodeport-ips{v} meta l4proto . th dport vmap @service-nodeports{v}",
    ),
    "nodeport-endpoints-check": ("{ip} daddr @nodeport-ips{v} meta l4proto . th dport vmap @no-endpoint-nodeports{v}",),
    "service-endpoints-check": ("{ip} daddr . meta l4proto . th dport vmap @no-endpoint-services{v}",),
    "cluster-ips-check": ("{ip} daddr @cluster-ips{v} reject",),
    "unknown-ips-check": ("{ip} daddr @service-cidrs{v} drop",),
    "nat-postrouting": ("ct status dnat {ip} saddr . {ip} daddr @hairpin-connections{v} masquerade fully-random",),
}
_EXTERNAL_LOCAL = (
    # Pods of the Node reach all endpoints, as if they went out to the load balancer and came back.
    "{ip} saddr @pods{v} {key} vmap @{prefix}cluster-policy{v}",
    f"fib saddr type local meta mark set meta mark or {MASQUERADE_MARK}",
    "fib saddr type local {key} vmap @{prefix}cluster-policy{v}",
    "{key} vmap @{prefix}local-policy{v}",
)
_MASQUERADE_ALL = f"meta mark set meta mark or {MASQUERADE_MARK}"


def write_frame(sees_replies: bool, is_instance: bool, name: str = TABLE) -> list[str]:
    """nft commands that make the frame or, where there is one of this version, empty it. The flags: Vantage."""
    lines = [f"add table inet {name}"]
    for family in _FAMILIES:
        more = instance.DEFINITIONS4 if family["v"] == "4" else {}
        for container, definition in {**_DEFINITIONS, **more, **_CLIENTS}.items():
            text = definition.format(**family)
            place = f"{'map' if ' : ' in text else 'set'} inet {name} {container}{family['v']}"
            lines.append(f"add {place} {{ {text} ; }}")
            if container not in _CLIENTS:
                lines.append(f"flush {place}")
    lines += [f"add set inet {name} revision {{ type ipv6_addr ; }}", f"flush set inet {name} revision"]
    return lines + _write_rules(sees_replies, is_instance, name)


def _write_rules(sees_replies: bool, is_instance: bool, table: str) -> list[str]:
    lines: list[str] = []
    rules = _rules(sees_replies)
    if is_instance:
        for chain, rule, is_first in instance.list_rules(_FAMILIES):
            rules.setdefault(chain, []).insert(0 if is_first else len(rules[chain]), rule)
    hooks = {**_BASE_CHAINS, **instance.BASE_CHAINS}
    for name in rules:
        hook = f" {{ {hooks[name]} ; }}" if name in hooks else ""
        lines += [f"add chain inet {table} {name}{hook}", f"flush chain inet {table} {name}"]
    return lines + [f"add rule inet {table} {name} {rule}" for name, texts in rules.items() for rule in texts]


def _rules(sees_replies: bool) -> dict[str, list[str]]:
    rules = {name: list(texts) for name, texts in _RULES.items()}
    for family in _FAMILIES:
        for name, texts in _FAMILY_RULES.items():
            rules.setdefault(name.format(**family), []).extend(text.format(**family) for text in texts)
        ip = family["ip"]
        for prefix, key in (("", f"{ip} daddr . meta l4proto . th dport"), ("nodeport-", "meta l4proto . th dport")):
            shared = [text.format(**family, prefix=prefix, key=key) for text in _EXTERNAL_LOCAL]
            if not sees_replies:
                shared.insert(1, _MASQUERADE_ALL)
            rules[f"{prefix}external-local{family['v']}"] = shared
    return rules
