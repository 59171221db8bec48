"""Which call launches a group, and how its instances get their second address. Pure.

RunInstances takes SecondaryPrivateIpAddressCount for one instance only, by its documentation; the same field of a
launch template carries no such sentence. What an account accepts is learned from its answers: a refusal
(InvalidParameterCombination) is remembered as long as the process lives.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Literal, NamedTuple


class Call(StrEnum):
    RUN = "r"
    FLEET = "f"


class Address(StrEnum):
    """IN_CALL: a secondary address with the launch. PREFIX: a /28 prefix with it. AFTER: assigned when it runs. IPv6
    addresses, where instances have some, come with the launch, but for BARE: all are assigned when it runs."""

    IN_CALL = "c"
    PREFIX = "p"
    AFTER = "a"
    BARE = "b"


class Way(NamedTuple):
    call: Call
    address: Address


Choice = Literal["auto", "prefix", "assign"]
MAX_TOKEN = 64
"""EC2's limit of a client token."""
_SUFFIX = 8


def plan_ways(choice: Choice, count: int, overrides: int, *, ipv6: bool = False) -> tuple[Way, ...]:
    """The ways to try, the best first, for a group that may be had as one of `overrides` (type and subnet). A later one
    is for an account that refuses those before. ipv6: instances have IPv6 addresses, which a launch of several may name
    by their number, as is documented."""
    ways = _plan_ipv4(choice, count, overrides)
    return (*ways, Way(ways[-1].call, Address.BARE)) if ipv6 else ways


def _plan_ipv4(choice: Choice, count: int, overrides: int) -> tuple[Way, ...]:
    one_override = overrides == 1
    call = Call.RUN if one_override else Call.FLEET
    after = Way(call, Address.AFTER)
    if choice == "assign":
        return (after,)
    if choice == "prefix":
        return (Way(call, Address.PREFIX), after)
    if one_override and count > 1:
        return (Way(Call.RUN, Address.IN_CALL), Way(Call.FLEET, Address.IN_CALL), after)
    return (Way(call, Address.IN_CALL), after)


class Refusals:
    """What the account has refused, by way and by whether it was for one instance or for several."""

    def __init__(self) -> None:
        self._refused: set[tuple[Way, bool]] = set()

    def add(self, way: Way, count: int) -> None:
        self._refused.add((way, count > 1))

    def left(self, ways: tuple[Way, ...], count: int) -> tuple[Way, ...]:
        return tuple(way for way in ways if (way, count > 1) not in self._refused)


def token_of(client_token: str, way: Way, emptied: int = 0) -> str:
    """Each way has a token of its own: a way that was refused may have used its token up.

    emptied: how many calls of the request have brought nothing: a fleet without instances has used its token up as
             well, and would say the same again
    """
    if len(client_token) > MAX_TOKEN - _SUFFIX:
        client_token = hashlib.sha256(client_token.encode()).hexdigest()[: MAX_TOKEN - _SUFFIX]
    return f"{client_token}.{way.call}{way.address}{emptied % 10000 or ''}"
