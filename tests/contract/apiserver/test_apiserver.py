"""What a kubelet, and the simulation, rely on: versions, watches, patches, deletion, refusals."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from tests.contract.apiserver.conftest import Cluster
from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.paths import NODES, PODS, event_path, field_selector, node_path, pod_path

CONTAINER_ID = "containerd://0123"


def manifest(cluster: Cluster, name: str = "p", **spec: Any) -> Json:
    return {
        "metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {
            "nodeName": cluster.node,
            "containers": [{"name": "c", "image": "i:1"}],
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": False,
            **spec,
        },
    }


async def create(cluster: Cluster, name: str = "p", **spec: Any) -> Json:
    return await cluster.client.create(pod_path(cluster.namespace), manifest(cluster, name, **spec))


async def patch_status(cluster: Cluster, pod: Json, **status: Any) -> Json:
    body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
    return await cluster.client.patch_strategic(pod_path(cluster.namespace, pod["metadata"]["name"], "status"), body)


async def delete(cluster: Cluster, pod: Json, **options: Any) -> Json:
    """With the answer, which the client's own `delete` does not read."""
    return await cluster.client.request("DELETE", pod_path(cluster.namespace, pod["metadata"]["name"]), body=options)


def condition(kind: str, status: str, **more: Any) -> Json:
    return {"type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z", **more}


def ended(exit_code: int) -> Json:
    return {
        "terminated": {
            "exitCode": exit_code,
            "reason": "Completed",
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:01Z",
            "containerID": CONTAINER_ID,
        }
    }


def container_status(**state: Any) -> Json:
    return {
        "name": "c",
        "image": "i:1",
        "imageID": "",
        "containerID": CONTAINER_ID,
        "ready": False,
        "restartCount": 0,
        "state": state,
    }


def conditions(pod: Json) -> dict[str, Json]:
    return {item["type"]: item for item in pod["status"].get("conditions") or []}


async def refusal(call: Any) -> KubeApiError:
    with pytest.raises(KubeApiError) as caught:
        await call
    return caught.value


class Follower:
    """Events of a watch, as (type, name), until `expect` has seen enough."""

    def __init__(self, cluster: Cluster, query: dict[str, str], version: str, path: str = PODS) -> None:
        self.events: list[Json] = []
        self._more = asyncio.Event()
        self._stream = cluster.client.watch(path, query, version)
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async with aclosing(self._stream) as stream:
            async for event in stream:
                if event["type"] != "BOOKMARK":
                    self.events.append(event)
                    self._more.set()

    async def expect(self, *wanted: tuple[str, str]) -> None:
        async with asyncio.timeout(30):
            while len(self.events) < len(wanted):
                self._more.clear()
                await self._more.wait()
        assert [(event["type"], event["object"]["metadata"]["name"]) for event in self.events] == list(wanted)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


# --- create, read ----------------------------------------------------------------------------------------------------


async def test_a_new_pod_is_pending_and_of_the_first_generation(cluster: Cluster) -> None:
    pod = await create(cluster)
    metadata = pod["metadata"]
    assert metadata["generation"] == 1 and metadata["uid"] and metadata["creationTimestamp"]
    assert pod["status"]["phase"] == "Pending" and pod["status"]["qosClass"] == "BestEffort"
    assert pod["spec"]["restartPolicy"] == "Always" and pod["spec"]["terminationGracePeriodSeconds"] == 30
    assert await cluster.client.get(pod_path(cluster.namespace, "p")) == pod


async def test_a_name_is_taken_once(cluster: Cluster) -> None:
    await create(cluster)
    error = await refusal(create(cluster))
    assert (error.status, error.reason) == (409, "AlreadyExists")


async def test_what_is_not_there_is_not_found(cluster: Cluster) -> None:
    error = await refusal(cluster.client.get(pod_path(cluster.namespace, "none")))
    assert (error.status, error.reason) == (404, "NotFound")
    error = await refusal(cluster.client.delete(pod_path(cluster.namespace, "none")))
    assert error.is_not_found


async def test_a_list_has_pages_of_one_version(cluster: Cluster) -> None:
    for name in ("a", "b", "c"):
        await create(cluster, name)
    pages = [
        (list(items), version)
        async for items, version in cluster.client.list_pages(pod_path(cluster.namespace), page_size=2)
    ]
    assert [[item["metadata"]["name"] for item in items] for items, _ in pages] == [["a", "b"], ["c"]]
    assert len({version for _, version in pages}) == 1
    assert "kind" not in pages[0][0][0]


async def test_a_list_is_selected_by_node(cluster: Cluster) -> None:
    await create(cluster, "a")
    other = manifest(cluster, "b", nodeName="another")
    await cluster.client.create(pod_path(cluster.namespace), other)
    query = field_selector(spec__nodeName=cluster.node)
    pages = [list(items) async for items, _ in cluster.client.list_pages(pod_path(cluster.namespace), query)]
    assert [item["metadata"]["name"] for item in pages[0]] == ["a"]


# --- watch -----------------------------------------------------------------------------------------------------------


async def test_a_watch_goes_on_from_a_version(cluster: Cluster) -> None:
    first = await create(cluster, "a")
    second = await create(cluster, "b")
    follower = Follower(cluster, field_selector(spec__nodeName=cluster.node), first["metadata"]["resourceVersion"])
    await patch_status(cluster, second, phase="Running")
    await delete(cluster, second, gracePeriodSeconds=0)
    # A deletion at once is a mark and then the end.
    await follower.expect(("ADDED", "b"), ("MODIFIED", "b"), ("MODIFIED", "b"), ("DELETED", "b"))
    marked = follower.events[2]["object"]["metadata"]
    assert marked["deletionTimestamp"] and marked["deletionGracePeriodSeconds"] == 0 and marked["generation"] == 2
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in follower.events]
    assert versions == sorted(set(versions))
    await follower.stop()


# --- patches ---------------------------------------------------------------------------------------------------------


async def test_conditions_are_merged_by_type(cluster: Cluster) -> None:
    pod = await create(cluster)
    await patch_status(cluster, pod, conditions=[condition("Ready", "False", reason="A"), condition("Foreign", "True")])
    merged = await patch_status(cluster, pod, conditions=[{"type": "Ready", "status": "True", "reason": None}])
    assert conditions(merged)["Ready"]["status"] == "True" and "reason" not in conditions(merged)["Ready"]
    assert conditions(merged)["Ready"]["lastProbeTime"] is None
    left = await patch_status(cluster, pod, conditions=[{"$patch": "delete", "type": "Ready"}])
    assert "Ready" not in conditions(left) and "Foreign" in conditions(left)


async def test_addresses_are_merged_by_ip_unless_they_are_replaced(cluster: Cluster) -> None:
    pod = await create(cluster)
    await patch_status(cluster, pod, podIP="10.0.0.1", podIPs=[{"ip": "10.0.0.1"}])
    error = await refusal(patch_status(cluster, pod, podIP="10.0.0.2", podIPs=[{"ip": "10.0.0.2"}]))
    assert error.is_invalid
    new = [{"$patch": "replace"}, {"ip": "10.0.0.2"}]
    replaced = await patch_status(cluster, pod, podIP="10.0.0.2", podIPs=new)
    assert replaced["status"]["podIPs"] == [{"ip": "10.0.0.2"}]


async def test_null_removes_and_container_statuses_are_replaced(cluster: Cluster) -> None:
    pod = await create(cluster)
    waiting = container_status(waiting={"reason": "ContainerCreating"})
    held = await patch_status(cluster, pod, reason="R", message="M", containerStatuses=[waiting])
    assert held["status"]["containerStatuses"][0]["lastState"] == {}
    running = container_status(running={"startedAt": "2026-01-01T00:00:00Z"})
    held = await patch_status(cluster, pod, reason=None, containerStatuses=[running])
    assert "reason" not in held["status"] and held["status"]["message"] == "M"
    assert list(held["status"]["containerStatuses"][0]["state"]) == ["running"]


async def test_a_patch_that_changes_nothing_makes_no_version(cluster: Cluster) -> None:
    pod = await create(cluster)
    first = await patch_status(cluster, pod, phase="Running", conditions=[condition("Ready", "True")])
    again = await patch_status(cluster, pod, phase="Running", conditions=[condition("Ready", "True")])
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_a_patch_for_another_uid_is_invalid_and_says_so(cluster: Cluster) -> None:
    pod = await create(cluster)
    other = {"metadata": {**pod["metadata"], "uid": "00000000-0000-4000-a000-000000000000"}}
    error = await refusal(patch_status(cluster, other, phase="Running"))
    assert error.is_invalid and "metadata.uid: Invalid value" in str(error)
    assert error.is_other_uid


async def test_a_status_patch_changes_the_status_only(cluster: Cluster) -> None:
    pod = await create(cluster)
    path = pod_path(cluster.namespace, "p", "status")
    body = {"metadata": {"uid": pod["metadata"]["uid"]}, "spec": {"nodeName": "x"}, "status": {"phase": "Running"}}
    after = await cluster.client.patch_strategic(path, body)
    assert after["spec"] == pod["spec"] and after["metadata"]["generation"] == 1
    labelled = await cluster.client.patch_json_merge(
        pod_path(cluster.namespace, "p"), {"metadata": {"labels": {"b": "c"}}, "status": {"phase": "Failed"}}
    )
    assert labelled["metadata"]["labels"] == {"app": "a", "b": "c"}
    assert labelled["metadata"]["generation"] == 1 and labelled["status"]["phase"] == "Running"


async def test_a_container_that_has_ended_for_good_does_not_run_again(cluster: Cluster) -> None:
    pod = await create(cluster, restartPolicy="Never")
    await patch_status(cluster, pod, containerStatuses=[container_status(**ended(0))])
    running = container_status(running={"startedAt": "2026-01-01T00:00:02Z"})
    error = await refusal(patch_status(cluster, pod, containerStatuses=[running]))
    assert error.is_invalid


async def test_a_container_that_may_restart_runs_again(cluster: Cluster) -> None:
    pod = await create(cluster, restartPolicy="OnFailure")
    await patch_status(cluster, pod, containerStatuses=[container_status(**ended(1))])
    running = container_status(running={"startedAt": "2026-01-01T00:00:02Z"})
    after = await patch_status(cluster, pod, containerStatuses=[running])
    assert list(after["status"]["containerStatuses"][0]["state"]) == ["running"]


async def test_an_old_version_may_not_be_written(cluster: Cluster) -> None:
    node = await cluster.client.create(NODES, {"metadata": {"name": cluster.node}})
    await cluster.client.patch_json_merge(node_path(cluster.node), {"metadata": {"labels": {"a": "b"}}})
    error = await refusal(cluster.client.put(node_path(cluster.node), node))
    assert (error.status, error.reason) == (409, "Conflict")
    patch = {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"], "labels": {"c": "d"}}}
    assert (await refusal(cluster.client.patch_strategic(node_path(cluster.node), patch))).is_conflict


async def test_a_nodes_addresses_and_amounts_are_patched(cluster: Cluster) -> None:
    addresses = [{"type": "InternalIP", "address": "10.0.0.9"}]
    status = {"addresses": addresses, "capacity": {"cpu": "4", "example.org/a": "1"}}
    await cluster.client.create(NODES, {"metadata": {"name": cluster.node}, "status": status})
    both = [{"type": "InternalIP", "address": "10.0.0.9"}, {"type": "InternalIP", "address": "fd00::9"}]
    patch = {"addresses": [*both, {"$patch": "replace"}], "capacity": {"example.org/a": None, "cpu": "8"}}
    node = await cluster.client.patch_strategic(node_path(cluster.node, "status"), {"status": patch})
    assert node["status"]["addresses"] == both and node["status"]["capacity"] == {"cpu": "8"}


# --- deletion --------------------------------------------------------------------------------------------------------


async def test_a_bound_pod_is_deleted_with_its_grace(cluster: Cluster) -> None:
    pod = await create(cluster, terminationGracePeriodSeconds=20)
    marked = await delete(cluster, pod)
    metadata = marked["metadata"]
    assert metadata["deletionTimestamp"] and metadata["deletionGracePeriodSeconds"] == 20
    assert metadata["generation"] == 2
    longer = await delete(cluster, pod, gracePeriodSeconds=40)
    assert longer["metadata"]["deletionGracePeriodSeconds"] == 20
    shorter = await delete(cluster, pod, gracePeriodSeconds=5)
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    wrong = {"uid": "00000000-0000-4000-a000-000000000000"}
    error = await refusal(delete(cluster, pod, gracePeriodSeconds=0, preconditions=wrong))
    assert error.is_conflict and error.is_other_uid
    await delete(cluster, pod, gracePeriodSeconds=0, preconditions={"uid": metadata["uid"]})
    assert (await refusal(cluster.client.get(pod_path(cluster.namespace, "p")))).is_not_found


async def test_a_pod_that_has_ended_is_deleted_at_once(cluster: Cluster) -> None:
    pod = await create(cluster)
    ended_pod = await patch_status(cluster, pod, phase="Succeeded")
    version = ended_pod["metadata"]["resourceVersion"]
    follower = Follower(cluster, field_selector(spec__nodeName=cluster.node), version)
    await delete(cluster, pod)
    assert (await refusal(cluster.client.get(pod_path(cluster.namespace, "p")))).is_not_found
    await follower.expect(("MODIFIED", "p"), ("DELETED", "p"))
    await follower.stop()


async def test_a_pod_without_a_node_is_deleted_at_once(cluster: Cluster) -> None:
    pod = manifest(cluster)
    del pod["spec"]["nodeName"]
    pod = await cluster.client.create(
        pod_path(cluster.namespace), {**pod, "spec": {**pod["spec"], "schedulerName": "x"}}
    )
    await delete(cluster, pod)
    assert (await refusal(cluster.client.get(pod_path(cluster.namespace, "p")))).is_not_found


async def test_a_finalizer_holds_a_deleted_pod(cluster: Cluster) -> None:
    body = manifest(cluster)
    body["metadata"]["finalizers"] = ["example.org/tracking"]
    pod = await cluster.client.create(pod_path(cluster.namespace), body)
    follower = Follower(cluster, field_selector(spec__nodeName=cluster.node), pod["metadata"]["resourceVersion"])
    await delete(cluster, pod, gracePeriodSeconds=0)
    held = await cluster.client.get(pod_path(cluster.namespace, "p"))
    assert held["metadata"]["deletionTimestamp"] and held["metadata"]["deletionGracePeriodSeconds"] == 0
    await delete(cluster, pod, gracePeriodSeconds=0)
    await cluster.client.patch_json_merge(pod_path(cluster.namespace, "p"), {"metadata": {"finalizers": None}})
    assert (await refusal(cluster.client.get(pod_path(cluster.namespace, "p")))).is_not_found
    await follower.expect(("MODIFIED", "p"), ("DELETED", "p"))
    await follower.stop()


async def test_a_finalizer_that_goes_first_changes_nothing_of_the_grace(cluster: Cluster) -> None:
    body = manifest(cluster)
    body["metadata"]["finalizers"] = ["example.org/tracking"]
    pod = await cluster.client.create(pod_path(cluster.namespace), body)
    await delete(cluster, pod)
    after = await cluster.client.patch_json_merge(pod_path(cluster.namespace, "p"), {"metadata": {"finalizers": None}})
    assert after["metadata"]["deletionGracePeriodSeconds"] == 30 and "finalizers" not in after["metadata"]
    await delete(cluster, pod, gracePeriodSeconds=0)
    assert (await refusal(cluster.client.get(pod_path(cluster.namespace, "p")))).is_not_found


async def test_the_same_name_is_another_pod(cluster: Cluster) -> None:
    pod = await create(cluster)
    await delete(cluster, pod, gracePeriodSeconds=0)
    again = await create(cluster)
    assert again["metadata"]["uid"] != pod["metadata"]["uid"]
    assert (await refusal(patch_status(cluster, pod, phase="Running"))).is_invalid


# --- events ----------------------------------------------------------------------------------------------------------


async def test_an_event_is_created_once_and_counted(cluster: Cluster) -> None:
    event = {
        "metadata": {"name": "e.1", "namespace": cluster.namespace},
        "involvedObject": {"kind": "Pod", "namespace": cluster.namespace, "name": "p"},
        "reason": "R",
        "message": "m",
        "type": "Normal",
        "count": 1,
    }
    await cluster.client.create(event_path(cluster.namespace), event)
    assert (await refusal(cluster.client.create(event_path(cluster.namespace), event))).is_conflict
    counted = await cluster.client.patch_strategic(event_path(cluster.namespace, "e.1"), {"count": 2})
    assert counted["count"] == 2
    missing = cluster.client.patch_strategic(event_path(cluster.namespace, "e.2"), {"count": 2})
    assert (await refusal(missing)).is_not_found
