"""What pools are made of, and whose they are before a pod has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vk_provider.instances.instance import OwnedInstance
from vk_provider.instances.poolstores import NoPoolImages, PoolImages
from vk_provider.sizing.pool import PoolSpec


class GrantSigner(Protocol):
    """agentclient.grants.Grants."""

    def sign(self, instance_id: str, pod_uid: str) -> str: ...

    def is_genuine(self, grant: str, instance_id: str, pod_uid: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class PoolRules:
    """specs: the pools. grants: see agentclient.grants. configuration: digest of what goes into every instance beside a
    pool's own settings: machine image, user data. An instance of another one is replaced. images: see PoolImages."""

    grants: GrantSigner
    specs: tuple[PoolSpec, ...] = ()
    configuration: str = ""
    images: PoolImages = field(default_factory=NoPoolImages)
    boots_soon: bool = False


class Unclaimed(Protocol):
    """Of instances.supply.Supply."""

    is_settled: bool

    @property
    def unclaimed(self) -> Mapping[str, OwnedInstance]: ...

    def stock_up(self, owned: OwnedInstance) -> None:
        """A new instance, which is nobody's."""

    def end(self, owned: OwnedInstance, why: str) -> None: ...

    def offer_stopped(self, waits_s: float = 0.0) -> None:
        """To pods that wait for so long."""

    def known(self) -> Iterable[OwnedInstance]:
        """All that exist, whoever has them."""
