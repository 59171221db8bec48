"""The phase before a provider leads: what stands in its way is a bad start, and what it opened is closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vk_provider import foundation
from vk_provider.agentclient.identity_store import DirectoryIdentityStore, ProviderIdentity, SecretIdentityStore
from vk_provider.aiokit.stopsteps import StopSteps
from vk_provider.aiokit.supervisor import Supervisor
from vk_provider.cloud.listing import list_owned
from vk_provider.errors import BadStartError, KubeApiError
from vk_provider.foundation import build_identity_store, load_identity, prepare
from vk_provider.kube.client import KubeClient
from vk_provider.settings import IdentitySettings, Settings, load_settings


class ForbiddenStore:
    async def load_or_create(self) -> ProviderIdentity:
        raise KubeApiError(403, "Forbidden", "secrets is forbidden")

    async def save(self, identity: ProviderIdentity) -> None:
        raise AssertionError("nothing was loaded")


async def test_an_identity_that_may_not_be_read_is_a_bad_start() -> None:
    with pytest.raises(BadStartError, match="forbidden"):
        await load_identity(ForbiddenStore())


def test_the_identity_lives_where_the_settings_say() -> None:
    nobody: Any = None
    assert isinstance(build_identity_store(IdentitySettings(), nobody), DirectoryIdentityStore)
    assert isinstance(build_identity_store(IdentitySettings(secret="ns/name"), nobody), SecretIdentityStore)


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    path = tmp_path / "c.toml"
    path.write_text(
        '[[nodes]]\nname = "n1"\naddress = "127.0.0.1"\n[[nodes]]\nname = "n2"\naddress = "127.0.0.2"\n'
        f'[cluster]\nkubeconfig = "{tmp_path / "kubeconfig"}"\nrequest_connections = 7\n'
        f'[identity]\ndirectory = "{tmp_path / "identity"}"\n[cloud]\nbackend = "simulated"\n'
    )
    return load_settings(path, {})


async def test_each_kind_of_request_has_connections_of_its_own_and_all_are_closed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reachable(self: KubeClient, timeout_s: float) -> None:
        return

    monkeypatch.setattr(KubeClient, "_check_reachable", reachable)
    stops = StopSteps()
    base = await prepare(settings, Supervisor(), stops)
    pools = [base.clients.requests, base.clients.leases, base.clients.reviews]
    limits = [client._requests.connector.limit for client in pools]
    assert limits == [7, 2 * foundation.LEASE_CONNECTIONS, foundation.REVIEW_CONNECTIONS]
    assert {client.metrics_hook for client in pools} == {base.metrics.observe_api_call}
    assert (Path(settings.identity.directory) / "identity.json").exists()
    assert await list_owned(base.cloud) == []
    await stops.run()
    assert all(client._requests.closed for client in pools)
