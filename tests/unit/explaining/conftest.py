"""The cluster that most questions are about."""

from __future__ import annotations

import pytest

from tests.service_objects import make_endpoint, make_port, make_service, make_slice
from tests.unit.explaining.rig import DNS, World
from tests.unit.explaining.saying import CLIENT, SERVER, pod


@pytest.fixture
def world() -> World:
    made = World(dns=(DNS,))
    made.index.apply_namespace("a", {})
    made.add_pod(pod("client", CLIENT))
    made.add_pod(pod("server", SERVER))
    made.apply(
        make_service("kube-system/dns", DNS, ports=[make_port(53, "UDP")]),
        make_slice("kube-system/dns", make_endpoint("10.1.0.53"), ports=[{"name": "", "protocol": "UDP", "port": 53}]),
    )
    return made
