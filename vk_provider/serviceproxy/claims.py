"""Which Service, or pod with host ports, gets a frontend that several of them name. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vk_provider.serviceproxy.frontend import Frontend

Rank = tuple[int, str, str]
"""Of two claims to one frontend the smaller rank gets it (frontend.list_claims)."""


class Claims:
    """Nearly all frontends have one claim; only the others cost anything.

    claims_of: what a key claims now; ranks are kept only where they decide
    """

    def __init__(self, claims_of: Callable[[str], Mapping[Frontend, Rank]]) -> None:
        self._claims_of = claims_of
        self._owner: dict[Frontend, str] = {}
        self._contested: dict[Frontend, dict[str, Rank]] = {}

    def replace(self, key: str, before: Mapping[Frontend, Rank], claims: Mapping[Frontend, Rank]) -> set[str]:
        """Other keys that win or lose a frontend by the new claims of `key`, which `claims_of` says already. before:
        its claims until now."""
        affected: set[str] = set()
        for frontend in before.keys() - claims.keys():
            affected |= self._contested.get(frontend, {}).keys()
            self._drop(key, frontend)
        for frontend, rank in claims.items():
            owner = self._owner.setdefault(frontend, key)
            contenders = self._contested.get(frontend)
            if contenders is None and owner != key:
                contenders = self._contested[frontend] = {owner: self._claims_of(owner)[frontend]}
            if contenders is not None:
                contenders[key] = rank
                affected |= contenders.keys()
                self._owner[frontend] = _best(contenders)
        return affected - {key}

    def denied(self, key: str) -> frozenset[Frontend]:
        """Those that `key` claims and another one has."""
        if not self._contested:
            return frozenset()
        return frozenset(item for item in self._claims_of(key) if self._owner[item] != key)

    def _drop(self, key: str, frontend: Frontend) -> None:
        contenders = self._contested.get(frontend)
        if contenders is None:
            del self._owner[frontend]
            return
        del contenders[key]
        self._owner[frontend] = _best(contenders)
        if len(contenders) == 1:
            del self._contested[frontend]


def _best(contenders: Mapping[str, Rank]) -> str:
    return min(contenders, key=contenders.__getitem__)
