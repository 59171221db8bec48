"""What a pod may use, and what of its instance and of this machine it can touch."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.e2e.manifest import SLEEP, container, pod
from tests.e2e.nodeless import Namespace, container_status, terminated
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real

SERVE = f"mkdir /www; echo $0 $HOSTNAME > /www/index.html; httpd -p 8080 -h /www; {SLEEP}"
MARKER = "written-by-a-pod-of-the-tests"


def resources(cpu: str = "", memory: str = "") -> Json:
    limits = {name: amount for name, amount in (("cpu", cpu), ("memory", memory)) if amount}
    return {"resources": {"limits": limits, "requests": limits}}


@pytest.fixture(scope="module")
def world(namespace: Namespace) -> Namespace:
    image = namespace.nodeless.image
    eat = "echo eating; exec dd if=/dev/zero of=/dev/null bs=400M count=1"
    namespace.apply(
        pod("greedy", container(image, eat, **resources("100m", "64Mi")), restartPolicy="Never"),
        pod(
            "survivor",
            container(image, eat, "victim", **resources("100m", "64Mi")),
            container(image, SLEEP, "other", **resources("100m", "64Mi")),
            restartPolicy="Never",
        ),
        pod(
            "unlimited",
            container(image, eat.replace("400M", "800M"), resources={"requests": {"cpu": "100m", "memory": "64Mi"}}),
            restartPolicy="Never",
        ),
        pod("throttled", container(image, SLEEP, **resources("100m", "64Mi"))),
        pod("port", container(image, SERVE, ports=[{"containerPort": 8080, "hostPort": 18080}])),
        pod("host", container(image, SERVE.replace("8080", "18081")), hostNetwork=True),
        pod(
            "path",
            container(
                image,
                f"echo {MARKER} > /host/{MARKER}; ls /host; {SLEEP}",
                volumeMounts=[{"name": "host", "mountPath": "/host"}],
            ),
            volumes=[{"name": "host", "hostPath": {"path": "/var/lib", "type": "Directory"}}],
        ),
        pod("client", container(image)),
    )
    namespace.wait_ready("client")
    return namespace


def test_a_container_above_its_memory_limit_is_oom_killed(world: Namespace) -> None:
    world.wait_phase("greedy", "Failed")
    killed = world.wait_pod("greedy", "the reason", lambda item: terminated(item).get("reason") == "OOMKilled")
    assert terminated(killed)["exitCode"] == 137


def test_an_oom_kill_leaves_the_pods_other_containers_alone(world: Namespace) -> None:
    alive = world.wait_pod(
        "survivor", "its victim was killed", lambda item: terminated(item, "victim").get("reason") == "OOMKilled"
    )
    assert "running" in container_status(alive, "other")["state"]
    assert alive["status"]["phase"] == "Running"


def test_a_pod_without_a_limit_cannot_have_more_than_its_instance(world: Namespace) -> None:
    ended = world.wait_phase("unlimited", "Failed")
    assert terminated(ended).get("reason") in ("OOMKilled", "Error") or ended["status"].get("reason") == "Evicted"


def test_a_cpu_limit_holds(world: Namespace) -> None:
    world.wait_ready("throttled")
    before, started = _used_cpu_s(world), time.monotonic()
    world.execute("throttled", "timeout -s KILL 5 sh -c 'while :; do :; done'", check=False)
    used, elapsed = _used_cpu_s(world) - before, time.monotonic() - started
    assert 0.02 < used / elapsed < 0.2, f"{used:.2f} s of CPU in {elapsed:.2f} s at a limit of 0.1"


def _used_cpu_s(world: Namespace) -> float:
    """CPU time of the container, from the kernel's own account of its control group."""
    container_id = container_status(world.pod("throttled"))["containerID"].removeprefix("containerd://")
    for root in ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup"):
        for group in Path(root).rglob(f"*{container_id}*"):
            if (group / "cpuacct.usage").exists():
                return int((group / "cpuacct.usage").read_text()) / 1e9
            if (group / "cpu.stat").exists():
                return int((group / "cpu.stat").read_text().split()[1]) / 1e6
    raise AssertionError(f"no control group of {container_id}")


def test_a_host_port_answers_at_the_instances_address(world: Namespace) -> None:
    host = world.wait_ready("port")[0]["status"]["hostIP"]
    assert world.execute("client", f"wget -qO- http://{host}:18080/").stdout.endswith("port\n")


def test_a_pod_on_the_host_network_has_the_instances_address(world: Namespace) -> None:
    status = world.wait_ready("host")[0]["status"]
    assert status["podIP"] == status["hostIP"]
    assert world.execute("client", f"wget -qO- http://{status['podIP']}:18081/").stdout
    assert "eth0" in world.execute("host", "ip address").stdout


def test_a_host_path_is_the_instances_and_never_this_machines(world: Namespace) -> None:
    world.wait_ready("path")
    assert MARKER in world.logs("path")
    assert not Path("/var/lib", MARKER).exists()
    assert MARKER in world.instance("path").run("ls /var/lib")
    assert MARKER not in world.instance("client").run("ls /var/lib")
