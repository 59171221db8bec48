from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.launching import launch_each
from tests.listener import Listener
from vk_provider.agentclient.session import Slot
from vk_provider.cloud.base import TAG_OWNER, Instance, InstanceState, LaunchRequest, offering_key
from vk_provider.cloud.listing import list_owned
from vk_provider.cloud.simulated.cloud import SimulatedCloud
from vk_provider.cloud.simulated.config import SimulationConfig
from vk_provider.cloud.simulated.connector import SimulatedConnector
from vk_provider.errors import AgentError, AgentUnreachableError, CapacityError, CloudError
from vk_provider.wire import routes


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pod(**metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": "u1", "name": "p", "namespace": "d", "generation": 3, **metadata},
        "spec": {
            "initContainers": [{"name": "i", "image": "busybox"}],
            "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}],
        },
    }


def message(subject: dict[str, Any]) -> dict[str, Any]:
    return {"type": "pod", "pod": subject, "references": {}, "node": {}}


async def launch(cloud: SimulatedCloud, token: str = "t") -> Instance:
    offering = (await cloud.describe_offerings())[0]
    (result,) = await launch_each(cloud, [LaunchRequest(token, (offering,), {TAG_OWNER: "o"}, "{}")])
    assert isinstance(result, Instance), result
    return result


async def listen(connector: SimulatedConnector, instance: Instance) -> Listener:
    return Listener(await connector.open_session(instance))


async def test_a_pod_runs_at_once_and_ends_when_it_is_deleted() -> None:
    cloud = SimulatedCloud(SimulationConfig(), "o")
    connector = SimulatedConnector(cloud)
    instance = await launch(cloud)
    session = await listen(connector, instance)
    session.session.put(Slot.POD, message(pod()))
    hello, status, *events = await session.read(11)
    assert (hello["type"], hello["instanceID"], hello["podUID"]) == ("hello", instance.instance_id, "")
    assert status["status"]["phase"] == "Running" and status["finished"] is False
    assert status["status"]["podIP"] == instance.pod_ip and status["status"]["hostIP"] == instance.primary_ip
    assert status["status"]["observedGeneration"] == 3
    ready = {c["type"]: c["status"] for c in status["status"]["conditions"]}
    assert ready["Ready"] == ready["ContainersReady"] == ready["Initialized"] == "True"
    assert [e["reason"] for e in events] == ["Pulled", "Created", "Started"] * 3
    session.session.put(Slot.POD, message(pod(deletionTimestamp="2026-01-01T00:00:00Z")))
    (last,) = await session.read(1)
    assert last["finished"] is True and last["status"]["phase"] == "Succeeded"
    await connector.close()


async def test_a_resize_of_a_pod_is_carried_out() -> None:
    def sized(cpu: str) -> dict[str, Any]:
        subject = pod(generation=int(cpu))
        subject["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
        return subject

    cloud = SimulatedCloud(SimulationConfig(), "o")
    connector = SimulatedConnector(cloud)
    session = await listen(connector, await launch(cloud))
    session.session.put(Slot.POD, message(sized("1")))
    await session.read(11)
    session.session.put(Slot.POD, message(sized("2")))
    ((status),) = [each["status"] for each in await session.read(1)]
    assert status["observedGeneration"] == 2 and status["allocatedResources"] == {"cpu": "2"}
    assert status["resources"] == {"requests": {"cpu": "2"}}
    assert status["containerStatuses"][0]["resources"] == {"requests": {"cpu": "2"}}
    await connector.close()


async def test_a_new_session_replays_status_and_unacknowledged_events_and_ends_the_old_one() -> None:
    cloud = SimulatedCloud(SimulationConfig(), "o")
    connector = SimulatedConnector(cloud)
    instance = await launch(cloud)
    old = await listen(connector, instance)
    old.session.put(Slot.POD, message(pod()))
    await old.read(11)
    old.session.put(Slot.ACK, {"type": "ack", "seq": 7})
    await asyncio.sleep(0.01)
    new = await listen(connector, instance)
    replayed = await new.read(4)
    assert [m["type"] for m in replayed] == ["hello", "status", "event", "event"]
    assert [m["seq"] for m in replayed[2:]] == [8, 9]
    assert await old.ended() is None
    await connector.close()


async def test_a_stop_fails_the_pod_with_its_reason() -> None:
    cloud = SimulatedCloud(SimulationConfig(), "o")
    connector = SimulatedConnector(cloud)
    session = await listen(connector, await launch(cloud))
    session.session.put(Slot.POD, message(pod()))
    await session.read(11)
    session.session.put(Slot.STOP, {"type": "stop", "gracePeriodSeconds": 0, "reason": "Evicted", "message": "full"})
    (last,) = await session.read(1)
    assert (last["status"]["phase"], last["status"]["reason"], last["finished"]) == ("Failed", "Evicted", True)
    await connector.close()


async def test_the_pod_of_a_job_succeeds_by_itself() -> None:
    cloud = SimulatedCloud(SimulationConfig(job_run_s=0.0), "o")
    connector = SimulatedConnector(cloud)
    session = await listen(connector, await launch(cloud))
    session.session.put(Slot.POD, message(pod(ownerReferences=[{"kind": "Job", "name": "j"}])))
    last = (await session.read(12))[-1]
    assert last["type"] == "status" and last["status"]["phase"] == "Succeeded" and last["finished"]
    await connector.close()


async def test_an_agent_answers_after_the_boot_and_never_after_the_end() -> None:
    clock = Clock()
    cloud = SimulatedCloud(SimulationConfig(boot_latency_s=5), "o", clock)
    connector = SimulatedConnector(cloud)
    instance = await launch(cloud)
    with pytest.raises(AgentUnreachableError):
        await connector.open_session(instance)
    clock.now += 5
    session = await listen(connector, instance)
    cloud.vanish(instance.instance_id)
    assert [m["type"] for m in await session.read(99)] == ["hello"]
    with pytest.raises(AgentUnreachableError):
        await connector.open_session(instance)
    (gone,) = await cloud.describe([instance.instance_id])
    assert gone.state is InstanceState.TERMINATED and "reclaimed" in gone.state_reason
    await connector.close()


async def test_failures_are_injected() -> None:
    clock = Clock()
    cloud = SimulatedCloud(SimulationConfig(visible_after_s=3, remember_s=60), "o", clock)
    offering = (await cloud.describe_offerings())[0]
    cloud.failures.no_capacity.add(offering_key(offering))
    (refused,) = await launch_each(cloud, [LaunchRequest("t", (offering,), {}, "{}")])
    assert isinstance(refused, CapacityError) and refused.zone == offering.zone
    cloud.failures.no_capacity.clear()
    cloud.failures.throttled = 1
    with pytest.raises(CloudError, match="RequestLimitExceeded"):
        await list_owned(cloud)
    instance = await launch(cloud)
    assert await list_owned(cloud) == []
    clock.now += 3
    assert [i.instance_id for i in await list_owned(cloud)] == [instance.instance_id]
    await cloud.terminate([instance.instance_id])
    clock.now += 61
    assert await list_owned(cloud) == [] and await cloud.describe([instance.instance_id]) == []


async def test_logs_and_stats_are_answered_and_streams_refused() -> None:
    cloud = SimulatedCloud(SimulationConfig(), "o")
    connector = SimulatedConnector(cloud)
    instance = await launch(cloud)
    session = await listen(connector, instance)
    session.session.put(Slot.POD, message(pod()))
    await session.read(2)
    response = await connector.request(instance, "GET", routes.LOGS, [("container", "a")])
    body = b"".join([part async for part in response.iter_any()])
    assert response.status == 200 and body == f"simulated container a on {instance.instance_id}\n".encode()
    limited = await connector.request(instance, "GET", routes.LOGS, [("container", "a"), ("limitBytes", "4")])
    assert b"".join([part async for part in limited.iter_any()]) == b"simu"
    stats = await connector.request(instance, "GET", routes.STATS)
    assert b'"podRef"' in b"".join([part async for part in stats.iter_any()])
    with pytest.raises(AgentError, match="no exec"):
        await connector.open_stream(instance, lambda: None)
    await connector.close()


async def test_an_instance_that_may_not_be_terminated_spoils_no_other_termination() -> None:
    cloud = SimulatedCloud(SimulationConfig(), "o")
    offering = (await cloud.describe_offerings())[0]
    requests = [LaunchRequest(token, (offering,), {TAG_OWNER: "o"}, "{}") for token in ("a", "b")]
    kept, other = [item.instance_id for item in await launch_each(cloud, requests) if isinstance(item, Instance)]
    cloud.failures.protected = {kept}
    failed, done = await cloud.terminate([kept, other])
    assert isinstance(failed, CloudError) and done is None
    assert [item.state for item in await list_owned(cloud)] == [InstanceState.RUNNING, InstanceState.TERMINATED]
