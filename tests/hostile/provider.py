"""The provider's process, as `vk-provider run` starts it, on the cloud of the test.

python -m tests.hostile.provider CONFIG SOCKET AGENT_PORT [--redial-at-once]

--redial-at-once: an agent that broke the protocol is dialed again after some milliseconds, so that thousands of
violations fit into a minute. Nothing else of the provider is changed.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from tests.hostile.cloud import CloudClient
from vk_provider import app, foundation
from vk_provider.agentclient.base import AgentConnector
from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.aiokit.backoff import Backoff
from vk_provider.cloud.base import Cloud
from vk_provider.instances import instance, links
from vk_provider.settings import Settings, load_settings

REDIAL_S = 0.01


def main(config: str, socket: str, port: str, *flags: str) -> int:
    def create_backend(settings: Settings, identity: ProviderIdentity) -> tuple[Cloud, AgentConnector]:
        connector = HttpsConnector(identity, settings.identity.certificate_ttl_s, int(port))
        return CloudClient(socket), connector

    _replace(foundation, "create_backend", create_backend)
    if "--redial-at-once" in flags:
        _replace(links, "DIAL_MAX_S", REDIAL_S)
        _replace(instance, "Backoff", lambda first_s, max_s: Backoff(REDIAL_S, REDIAL_S))
    return app.run(load_settings(config))


def _replace(module: ModuleType, name: str, value: Any) -> None:
    """What the module has under that name; a name that it has not would change nothing."""
    assert hasattr(module, name), f"{module.__name__} has no {name}"
    setattr(module, name, value)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
