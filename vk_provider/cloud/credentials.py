"""Logins at image registries that a cloud gives to the whole Node, as a kubelet has them of credential providers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """expires_at: Unix time."""

    username: str
    password: str = field(repr=False)
    expires_at: float


class CredentialSource(Protocol):
    """The cloud's ability to log in to registries. Its user remembers and paces (registry.logins)."""

    def scope_of(self, host: str) -> str:
        """Registries of one scope take the same login; "" for a registry that this cloud has no login for. host: as in
        an image's name."""

    async def log_in(self, scope: str) -> RegistryLogin:
        """Asks for a new login. Raises CloudError."""
