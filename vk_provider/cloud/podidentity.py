"""The roles that a cloud gives to pods by their service account tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RoleAnswer:
    """status: of HTTP. body: what the container is answered. fresh_for_s: for how long it may be answered so again."""

    status: int
    body: str = field(repr=False)
    fresh_for_s: float


class PodIdentitySource(Protocol):
    """The cloud's ability to give credentials for tokens. audience: that tokens must have."""

    audience: str

    async def assume_role(self, token: str) -> RoleAnswer:
        """The answer for a token that the cluster has issued; also a refusal is one. Raises nothing of the cloud's."""
