"""The host ports of a Node's pods, as they come and go with their instances."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.pods.rig import NODE, World
from vk_provider.serviceproxy.hostport import HostPort

PORTS = [
    {"containerPort": 80, "hostPort": 8080},
    {"containerPort": 53, "hostPort": 53, "hostIP": "192.0.2.1", "protocol": "UDP"},
    {"containerPort": 81, "hostPort": 8081, "hostIP": "0.0.0.0"},
    {"containerPort": 82},
]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.start()
    yield made
    await made.stop()


def containers(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}, "ports": PORTS, **more}]


async def test_host_ports_lead_to_the_pod_once_it_has_an_instance_and_nowhere_when_it_has_ended(world: World) -> None:
    pod = await world.running(containers=containers())
    [instance] = world.live_of(pod)
    uid = pod["metadata"]["uid"]
    ports = (
        HostPort("", "TCP", 8080, instance.pod_ip, 80),
        HostPort("192.0.2.1", "UDP", 53, instance.pod_ip, 53),
        HostPort("", "TCP", 8081, instance.pod_ip, 81),
    )
    assert world.host_ports == [(NODE, uid, ports)]
    world.connector.end_pod(instance.instance_id)
    await world.until(lambda: world.api.status(pod).get("phase") == "Succeeded" or len(world.host_ports) == 2)
    await world.settle()
    assert world.host_ports[1:] == [(NODE, uid, ())]


async def test_those_of_a_pod_on_the_hosts_network_lead_to_the_instances_own_address(world: World) -> None:
    pod = await world.running(containers=containers(), hostNetwork=True)
    [instance] = world.live_of(pod)
    assert {port.pod_ip for port in world.host_ports[0][2]} == {instance.primary_ip}


async def test_a_deleted_pods_host_ports_are_gone(world: World) -> None:
    pod = await world.running(containers=containers())
    world.api.mark_deleting(pod)
    await world.until(lambda: world.record(pod) is None)
    assert world.host_ports[-1] == (NODE, pod["metadata"]["uid"], ())


async def test_pods_without_host_ports_say_nothing(world: World) -> None:
    await world.running()
    await world.settle()
    assert world.host_ports == []
