"""NetworkPolicies as a user sees them: who reaches whom."""

from __future__ import annotations

import pytest

from tests.e2e.manifest import SLEEP, container, network_policy, pod, pods_of, service
from tests.e2e.nodeless import Namespace
from tests.e2e.until import until

pytestmark = pytest.mark.real

SERVE = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"
READY = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
TRY_AT_ONCE = "timeout 3 wget -qO- http://$SERVER:8080 && echo reached || echo denied"
ALLOWED_S = 15
"""For a change of a policy or of a label to reach an instance; it takes a fraction of it."""


@pytest.fixture(scope="module")
def world(namespace: Namespace) -> Namespace:
    """Two servers, of which one lets in a friend alone, a client that may only go to the other; policies first."""
    image = namespace.nodeless.image
    port = [{"name": "web", "containerPort": 8080}]
    namespace.apply(
        network_policy("guarded", "guarded", ingress=[{"from": [pods_of("friend")], "ports": [{"port": "web"}]}]),
        network_policy("client", "client", policyTypes=["Egress"], egress=[{"to": [pods_of("open")]}]),
        service("guarded", 8080),
        service("open", 8080) | {"spec": {"selector": {"app": "open"}, "ports": [{"port": 80, "targetPort": 8080}]}},
    )
    namespace.apply(
        pod("guarded", container(image, SERVE, ports=port, readinessProbe=READY)),
        pod("open", container(image, SERVE, ports=port, readinessProbe=READY)),
        pod("friend", container(image, SLEEP)),
        pod("client", container(image, SLEEP)),
    )
    namespace.wait_ready("guarded", "open", "friend", "client")
    return namespace


def address(world: Namespace, name: str) -> str:
    return str(world.pod(name)["status"]["podIP"])


def reaches(world: Namespace, source: str, host: str, port: int = 8080) -> bool:
    return world.execute(source, f"timeout 3 wget -qO- http://{host}:{port}", check=False).returncode == 0


def wait_reaches(world: Namespace, source: str, host: str, wanted: bool = True) -> None:
    until(
        f"{source} {'reaches' if wanted else 'loses'} {host}", lambda: reaches(world, source, host) is wanted, ALLOWED_S
    )


def test_a_pod_is_reached_by_those_whom_its_policy_names_and_by_its_probes(world: Namespace) -> None:
    """It is Ready, so its probe passes. That the friend is there reaches the policy's instance in a moment."""
    guarded = address(world, "guarded")
    wait_reaches(world, "friend", guarded)
    assert not reaches(world, "open", guarded)
    assert reaches(world, "guarded", guarded)  # itself


def test_egress_to_a_service_is_judged_by_the_pods_behind_it(world: Namespace) -> None:
    open_ip, guarded_ip = (world.get("service", name)["spec"]["clusterIP"] for name in ("open", "guarded"))
    assert reaches(world, "client", open_ip, 80)
    assert reaches(world, "client", address(world, "open"))
    assert not reaches(world, "client", guarded_ip)
    assert reaches(world, "friend", guarded_ip)


def test_a_pod_reaches_itself_through_its_service_whatever_is_denied(world: Namespace) -> None:
    assert reaches(world, "guarded", world.get("service", "guarded")["spec"]["clusterIP"])


def test_the_first_packet_of_a_container_meets_the_policy(world: Namespace) -> None:
    env = [{"name": "SERVER", "value": address(world, "open")}]
    image = world.nodeless.image
    world.apply(network_policy("hasty", "hasty", policyTypes=["Egress"]))
    world.apply(
        pod("hasty", container(image, TRY_AT_ONCE, env=env), restartPolicy="Never"),
        pod("free", container(image, TRY_AT_ONCE, env=env), restartPolicy="Never"),
    )
    for name, word in (("hasty", "denied"), ("free", "reached")):
        world.wait_phase(name, "Succeeded")
        assert set(world.logs(name).split()) & {"denied", "reached"} == {word}


def test_labels_and_policies_count_as_they_are_now(world: Namespace) -> None:
    guarded = address(world, "guarded")
    world.kubectl("label", "pod", "friend", "app=stranger", "--overwrite")
    wait_reaches(world, "friend", guarded, wanted=False)
    world.kubectl("label", "pod", "friend", "app=friend", "--overwrite")
    wait_reaches(world, "friend", guarded)
    world.kubectl("delete", "networkpolicy", "guarded")
    wait_reaches(world, "open", guarded)
    world.apply(network_policy("deny", "guarded"))
    wait_reaches(world, "friend", guarded, wanted=False)
    assert world.pod("guarded")["status"]["containerStatuses"][0]["restartCount"] == 0
