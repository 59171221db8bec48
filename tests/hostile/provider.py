"""The provider's process, as `vk-provider run` starts it, on the cloud of the test. Every room that takes what agents
say is switched on: peers, prepared images, roles of pods.

python -m tests.hostile.provider CONFIG SOCKET AGENT_PORT [--redial-at-once]

--redial-at-once: an agent that broke the protocol is dialed again after some milliseconds, and read without a limit of
messages and pings a second, so that thousands of violations fit into a minute. Nothing else of the provider is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tests.hostile.cloud import CloudClient
from tests.jwt import AUDIENCE
from vk_provider import app, foundation
from vk_provider.agentclient import paced, session
from vk_provider.agentclient.base import AgentConnector
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import Cloud
from vk_provider.cloud.imagestores import PreparedStore, SourceLostError, StoreCosts
from vk_provider.cloud.limitedabilities import LimitedImageStores, LimitedPodIdentity
from vk_provider.cloud.podidentity import RoleAnswer
from vk_provider.clouds import Access
from vk_provider.imagesets.imageset import ImageSet
from vk_provider.instances import instance, links
from vk_provider.settings import Settings, load_settings

REDIAL_S = 0.01
UNLIMITED = 1e9


class Stores:
    """imagestores.ImageStores that takes sets and has none ready: every instance pulls for itself."""

    shares_machine = False

    def follow_costs(self, costs: StoreCosts) -> None:
        """They cost nothing."""

    async def prepare(
        self,
        images: ImageSet,
        sources: Sequence[str],
        max_bytes: int,
        architecture: str = "",
        *,
        is_awaited: bool = False,
    ) -> PreparedStore:
        raise SourceLostError("no instance here has any content")

    async def list_prepared(self) -> list[PreparedStore]:
        return []

    async def forget(self, handle: str) -> None:
        """There is none."""

    async def sweep(self, *, nobody_prepares: bool = False) -> None:
        """There is none."""


class Roles:
    """podidentity.PodIdentitySource that gives nobody a role."""

    audience = AUDIENCE

    async def assume_role(self, token: str) -> RoleAnswer:
        return RoleAnswer(403, "no role", 1.0)


def main(config: str, socket: str, port: str, *flags: str) -> int:
    def create_backend(settings: Settings, identity: ProviderIdentity) -> tuple[Cloud, AgentConnector]:
        connector = HttpsConnector(identity, settings.identity.certificate_ttl_s, int(port))
        return CloudClient(socket), connector

    _replace(foundation, "create_backend", create_backend)
    _replace(foundation, "find_image_stores", lambda settings, cloud: LimitedImageStores(Stores()))
    _replace(foundation, "find_access", lambda settings, cloud: Access(pod_identity=LimitedPodIdentity(Roles())))
    if "--redial-at-once" in flags:
        _replace(links, "DIAL_MAX_S", REDIAL_S)
        _replace(instance, "Backoff", lambda first_s, max_s: Backoff(REDIAL_S, REDIAL_S))
        _replace(session, "MESSAGE_RATE", UNLIMITED)
        _replace(session, "BYTE_RATE", UNLIMITED)
        _replace(paced, "PING_RATE", UNLIMITED)
    return app.run(load_settings(config))


def _replace(module: ModuleType, name: str, value: Any) -> None:
    """What the module has under that name; a name that it has not would change nothing."""
    assert hasattr(module, name), f"{module.__name__} has no {name}"
    setattr(module, name, value)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
