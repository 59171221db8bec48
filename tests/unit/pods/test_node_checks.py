"""Labels and taints of a Node are checked as a pod comes to it, and never again."""

from __future__ import annotations

from vk_provider.jsontypes import Json

from .rig import World

NODE: Json = {"metadata": {"labels": {}}, "spec": {}, "status": {"allocatable": {"cpu": "100", "pods": "50"}}}
TAINTED: Json = {**NODE, "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}
LABELLED: Json = {**NODE, "metadata": {"labels": {"disk": "ssd"}}}


def affinity(key: str) -> Json:
    term = {"matchExpressions": [{"key": key, "operator": "Exists"}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


async def test_a_pod_that_the_node_does_not_suit_fails_without_an_instance(world: World) -> None:
    pods = {"NodeAffinity": world.api.add(world.pod(affinity=affinity("disk")))}
    await world.until(lambda: world.api.status(pods["NodeAffinity"]).get("phase") == "Failed")
    world.node = TAINTED
    pods["TaintToleration"] = world.api.add(world.pod())
    await world.until(lambda: world.api.status(pods["TaintToleration"]).get("phase") == "Failed")
    for reason, pod in pods.items():
        assert world.api.status(pod)["reason"] == reason
        assert reason in world.recorder.reasons() and world.recorder.components[reason] == "kubelet"
    assert world.live() == []


async def test_a_pod_that_runs_stays_over_a_restart_though_its_node_does_not_suit_it_any_more(world: World) -> None:
    world.node = LABELLED
    pod = world.api.add(world.pod(affinity=affinity("disk")))
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    await world.crash()
    world.node = TAINTED
    await world.start()
    await world.until(lambda: (found := world.record(pod)) is not None and found.report.from_agent)
    await world.settle()
    assert world.api.status(pod)["phase"] == "Running" and len(world.live_of(pod)) == 1
    assert "NodeAffinity" not in world.recorder.reasons() and "TaintToleration" not in world.recorder.reasons()


async def test_a_label_that_the_scheduler_has_seen_first_is_read_before_the_pod_is_refused(world: World) -> None:
    world.api.node = lambda: LABELLED  # and the watch has not brought it
    pod = world.api.add(world.pod(affinity=affinity("disk")))
    await world.until(lambda: world.api.status(pod).get("phase") == "Running")
    assert "NodeAffinity" not in world.recorder.reasons()


async def test_events_about_instances_are_the_providers_own(world: World) -> None:
    """A kubelet's source would share its 25 events a pod with them."""
    await world.running()
    assert world.recorder.components["InstanceLaunched"] == "vk-provider"
