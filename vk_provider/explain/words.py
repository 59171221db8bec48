"""Small words that verdicts and documents share. Pure."""

from __future__ import annotations

from vk_provider.explain.facts import DnsFacts, Facts, Path

TOO_LARGE = "have too many rules, so nothing is allowed"


def count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def join_address(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def name_path(path: Path, *, with_port: bool = True) -> str:
    """The pod with its address, or the address."""
    where = join_address(*path.place) if with_port else path.place.address
    return f"{path.pod.key} ({where})" if path.pod is not None else where


def why_no_dns(dns: DnsFacts) -> str:
    return "no Service has its address" if dns.route.cause == "no-such-service" else "its Service has no endpoint"


def quote_port(facts: Facts) -> str:
    number = facts.frontend.port if facts.frontend is not None else facts.target.number
    return f"{number}/{facts.protocol}"
