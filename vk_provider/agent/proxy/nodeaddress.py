"""The Node's address as a source: a process on an instance may bind it, although it is another machine's.

A local route for the address lets a socket be bound to it. Packets to the address still leave the instance, by a rule
before that of the table `local`; only answers to connections that began with the address are the instance's own: the
table of Services gives them a mark (serviceproxy.instance), which has a rule of its own. Thereby nobody answers ARP for
the address, and the Node's machine reaches the instance as before.

route_localnet lets connections to host ports at 127.0.0.1 leave the instance; the table drops what it would let in.
Source: ip-rule(8), Documentation/networking/ip-sysctl.rst. Blocking; call in a thread.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from vk_provider.serviceproxy.address import Family, parse_address
from vk_provider.serviceproxy.instance import ANSWER_MARK, is_loopback

ROUTE_LOCALNET = Path("/proc/sys/net/ipv4/conf/all/route_localnet")
_IPV6 = Path("/proc/net/if_inet6")
_ANSWERS, _OTHERS, _LOCAL = 96, 97, 100
"""Preferences of our rules, and of the one for the table `local`, which is 0 by default and must come after them."""
_PROTOCOL = 118
"""By which our routes are known."""
_LIMIT_S = 10.0


class RoutingError(OSError):
    """ip could not be run, or refused it; str() is what it said."""


def set_up(node_addresses: Sequence[str], own_addresses: Iterable[str]) -> None:
    """Make these the addresses that processes may have as their source, beside the instance's own; what was set up
    before and is not among them goes. None at all: they are not known, and those that are set up stay. Idempotent.
    Raises OSError when all that can be done is done."""
    failures: list[str] = []
    try:
        if ROUTE_LOCALNET.read_text().strip() != "1":
            ROUTE_LOCALNET.write_text("1")
    except OSError as error:
        failures.append(f"{ROUTE_LOCALNET}: {error.strerror}")
    if node_addresses:
        failures += _set_up_sources(node_addresses, own_addresses)
    if failures:
        raise RoutingError("; ".join(failures))


def _set_up_sources(node_addresses: Iterable[str], own_addresses: Iterable[str]) -> list[str]:
    """What failed; one family does without the other."""
    wanted: dict[Family, set[str]] = {Family.IPV4: set(), Family.IPV6: set()}
    own = {parse_address(written) for written in own_addresses}
    for written in node_addresses:
        parsed = parse_address(written)
        if parsed is not None and not is_loopback(parsed[1]) and parsed not in own:
            wanted[parsed[0]].add(parsed[1])
    failures: list[str] = []
    for family, addresses in wanted.items():
        if family == Family.IPV6 and not addresses and not _IPV6.exists():
            continue
        try:
            batch = build_batch(addresses, _read_routing(family))
            if batch:
                _run(family, "-batch", "-", text=batch)
        except OSError as error:
            failures.append(str(error))
    return failures


class Routing(NamedTuple):
    """What is set up. rules: (preference, address) of ours; preferences of those of the table `local` for everything;
    addresses of our routes."""

    rules: frozenset[tuple[int, str]]
    local_rules: frozenset[int]
    routes: frozenset[str]


def build_batch(addresses: Iterable[str], known: Routing) -> str:
    """`ip -batch` input. A rule comes before its route and goes after it: with the route alone the instance would
    answer for the address. Pure."""
    wanted = frozenset(addresses)
    rules = frozenset((preference, address) for address in wanted for preference in (_ANSWERS, _OTHERS))
    lines = [f"route del {_write_route(address)}" for address in sorted(known.routes - wanted)]
    lines += [f"rule del {_write_rule(*rule)}" for rule in sorted(known.rules - rules)]
    lines += [f"rule add {_write_rule(*rule)}" for rule in sorted(rules - known.rules)]
    if wanted and _LOCAL not in known.local_rules:
        lines.append(f"rule add pref {_LOCAL} lookup local")
    if wanted and 0 in known.local_rules:
        lines.append("rule del pref 0 lookup local")
    lines += [f"route add {_write_route(address)}" for address in sorted(wanted - known.routes)]
    return "".join(f"{line}\n" for line in lines)


def parse_routing(rules: str, routes: str) -> Routing:
    """What `ip -json rule show` and `route show` of our routes print. Pure. Raises RoutingError for anything else."""
    ours: set[tuple[int, str]] = set()
    local_rules: set[int] = set()
    try:
        for rule in orjson.loads(rules or "[]"):
            if rule["priority"] in (_ANSWERS, _OTHERS) and rule.get("dst"):
                ours.add((rule["priority"], rule["dst"]))
            elif rule.get("table") == "local":
                local_rules.add(rule["priority"])
        found = frozenset(route["dst"] for route in orjson.loads(routes or "[]"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RoutingError(f"ip: what it prints cannot be read: {error!r}") from None
    return Routing(frozenset(ours), frozenset(local_rules), found)


def _write_rule(preference: int, address: str) -> str:
    if preference == _ANSWERS:
        return f"pref {preference} fwmark {ANSWER_MARK}/{ANSWER_MARK} to {address} lookup local"
    return f"pref {preference} to {address} lookup main"


def _write_route(address: str) -> str:
    return f"local {address} dev lo table local proto {_PROTOCOL}"


def _read_routing(family: Family) -> Routing:
    rules = _run(family, "-json", "rule", "show")
    return parse_routing(rules, _run(family, "-json", "route", "show", "table", "local", "proto", str(_PROTOCOL)))


def _run(family: Family, *arguments: str, text: str | None = None) -> str:
    command = ("ip", f"-{family.value}", *arguments)
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise RoutingError(f"ip: no end after {_LIMIT_S:g} s") from None
    if done.returncode:
        raise RoutingError(f"ip: {' '.join(done.stderr.split())[:1000] or f'exit code {done.returncode}'}")
    return done.stdout
