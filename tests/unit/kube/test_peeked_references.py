"""What a pod refers to, answered at once where there is nothing to read (kube.references.ReferenceStore.peek)."""

from __future__ import annotations

from typing import Any

import pytest

from vk_provider.jsontypes import Json
from vk_provider.kube.references import ReferenceStore
from vk_provider.kube.services import ServiceEnvironment

NO_CLIENT: Any = None
"""Nothing is to be asked."""


def build_pod(**spec: Any) -> Json:
    metadata = {"namespace": "default", "name": "web", "uid": "u-1"}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


@pytest.fixture
async def store() -> Any:
    store = ReferenceStore(NO_CLIENT, ServiceEnvironment(NO_CLIENT))
    store.services.synced.set()
    yield store
    store.release("u-1")


async def test_a_pod_without_references_needs_no_reading(store: ReferenceStore) -> None:
    pod = build_pod(serviceAccountName="builder")
    assert store.peek(pod) == await store.resolve(pod)


@pytest.mark.parametrize(
    "spec",
    [
        {"imagePullSecrets": [{"name": "registry"}]},
        {"runtimeClassName": "gvisor"},
        {"volumes": [{"name": "v", "configMap": {"name": "settings"}}]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]},
        {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "keys"}}]}]},
    ],
)
async def test_what_has_to_be_read_is_not_answered_at_once(store: ReferenceStore, spec: Json) -> None:
    assert store.peek(build_pod(**spec)) is None


async def test_no_pod_is_answered_before_the_services_were_listed(store: ReferenceStore) -> None:
    store.services.synced.clear()
    assert store.peek(build_pod()) is None
