"""When an instance's certificate is renewed, and when the provider's own is."""

from __future__ import annotations

import datetime
import time

import pytest

from vk_provider.agentclient.https import HttpsConnector
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.cloud.base import Instance, InstanceState

INSTANCE = Instance("i-1", InstanceState.RUNNING, "t", "z", "on-demand", "amd64", "10.0.0.1", "10.0.0.2", 0.0)


@pytest.fixture
def connector() -> HttpsConnector:
    return HttpsConnector(ProviderIdentity.create(datetime.datetime.now(datetime.UTC)), certificate_ttl_s=900)


def test_it_is_due_when_a_third_of_its_life_is_left_whenever_the_session_began(connector: HttpsConnector) -> None:
    connector._plan_renewal("i-1", time.time() + 700)
    assert 390 < connector.renewal_delay_s(INSTANCE) <= 400
    connector._plan_renewal("i-1", time.time() + 100)
    assert connector.renewal_delay_s(INSTANCE) == 0.0


def test_a_certificate_that_nobody_has_seen_is_renewed_at_once_and_a_forgotten_one_not_remembered(
    connector: HttpsConnector,
) -> None:
    assert connector.renewal_delay_s(INSTANCE) == 0.0
    connector._plan_renewal("i-1", time.time() + 700)
    connector.forget("i-1")
    assert connector._renew_at == {}


def test_the_providers_own_certificate_is_renewed_before_it_expires(connector: HttpsConnector) -> None:
    before = connector._verified
    connector._renew_contexts()
    assert connector._verified is before
    connector._contexts_until = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    connector._renew_contexts()
    assert connector._verified is not before
