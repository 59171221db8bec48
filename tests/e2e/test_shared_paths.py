"""What one pod leaves on "the node's disk" for the next, where the Node shares the path, and nowhere else."""

from __future__ import annotations

import pytest

from tests.e2e.manifest import SLEEP, container, job, pod
from tests.e2e.nodeless import Namespace, Nodeless
from tests.e2e.until import until
from vk_provider.jsontypes import Json

pytestmark = pytest.mark.real

SHARED, PRIVATE = "/tmp/shared/e2e", "/tmp/private"
MOUNT = {"volumeMounts": [{"name": "host", "mountPath": "/host"}]}


def host_path(path: str) -> list[Json]:
    return [{"name": "host", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]


def on_one_node(nodeless: Nodeless, path: str) -> Json:
    """Fields of pods that meet in the shared directory: it is the Node's, and the scheduler may choose any of them."""
    return {"volumes": host_path(f"{SHARED}/{path}"), "nodeName": nodeless.node}


def test_a_job_finds_what_its_first_try_left(namespace: Namespace, nodeless: Nodeless) -> None:
    """As the conformance suite's Job whose tasks sometimes fail and are not locally restarted."""
    script = "test -e /host/again && exit 0; touch /host/again; exit 1"
    task = job("once", container(nodeless.image, script, **MOUNT), **on_one_node(nodeless, "job"))
    task["spec"]["backoffLimit"] = 3
    namespace.apply(task)
    namespace.kubectl("wait", "job/once", "--for=condition=Complete", "--timeout=90s")
    namespace.kubectl("delete", "job", "once")


def test_a_path_that_is_not_shared_ends_with_its_instance(namespace: Namespace, nodeless: Nodeless) -> None:
    script = f"ls /host; touch /host/left; {SLEEP}"
    for name in ("first", "second"):
        namespace.apply(pod(name, container(nodeless.image, script, **MOUNT), volumes=host_path(PRIVATE)))
        namespace.wait_ready(name)
        assert namespace.logs(name) == ""


def test_nodes_share_nothing_with_each_other(namespace: Namespace, nodeless: Nodeless) -> None:
    script = f"ls /host; touch /host/left; {SLEEP}"
    for name in nodeless.nodes:
        mounted = container(nodeless.image, script, **MOUNT)
        namespace.apply(pod(f"on-{name}", mounted, volumes=host_path(f"{SHARED}/nodes"), nodeName=name))
    for name in nodeless.nodes:
        namespace.wait_ready(f"on-{name}")
        assert namespace.logs(f"on-{name}") == ""


def test_a_link_that_another_pod_left_leads_no_container_out_of_the_shared_path(
    namespace: Namespace, nodeless: Nodeless
) -> None:
    script = f"ln -s /var/lib/vk-agent /host/trap; mkdir /host/swapped; echo set; {SLEEP}"
    namespace.apply(pod("attacker", container(nodeless.image, script, **MOUNT), **on_one_node(nodeless, "links")))
    namespace.wait_ready("attacker")
    until("the trap is set", lambda: "set" in namespace.logs("attacker"))
    namespace.apply(
        pod("victim", container(nodeless.image, **MOUNT), **on_one_node(nodeless, "links/trap")),
        pod("other", container(nodeless.image, **MOUNT), **on_one_node(nodeless, "links/swapped")),
    )
    assert "outside" in namespace.wait_event("victim", "FailedMount", "outside")["message"]
    namespace.wait_ready("other")
    namespace.execute("attacker", "rmdir /host/swapped && ln -s / /host/swapped")
    assert namespace.execute("other", "ls -A /host").stdout == ""
    assert namespace.pod("victim")["status"]["phase"] == "Pending"
