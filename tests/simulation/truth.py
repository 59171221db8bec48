"""What is so, whatever the provider thinks: what is stored, what runs, what the cloud has."""

from __future__ import annotations

from typing import Any

from tests.simulation.agents import Agent, Fleet
from tests.simulation.apiserver.network import Network
from tests.simulation.cloud import CloudServer
from tests.simulation.process import NODE, ProviderProcess
from vk_provider.cloud.base import TAG_GROUP, TAG_POD_NAMESPACE, TAG_POD_UID, TAG_POOL, Instance
from vk_provider.jsontypes import Json
from vk_provider.leader import Leader
from vk_provider.settings import PoolSettings

FORGIVEN_S = 45.0
"""An agent that did not greet is dialed again so much later at most."""


class Truth:
    """process: the provider that runs now, or ran last; pools: as it was given them. ran_on: pod UID -> ID of the
    instance on which its containers ran first."""

    def __init__(self, network: Network, cloud: CloudServer, fleet: Fleet) -> None:
        self.network, self.cloud, self.fleet = network, cloud, fleet
        self.process: ProviderProcess | None = None
        self.pools: tuple[PoolSettings, ...] = ()
        self.ran_on: dict[str, str] = {}
        self._killed: dict[str, str] = {}
        """ID of each instance that the cloud itself has ended -> UID of its pod."""

    @property
    def leader(self) -> Leader | None:
        """None before the cloud has answered."""
        process = self.process
        return process.provider.leader if process is not None and process.provider is not None else None

    @property
    def has_adopted(self) -> bool:
        """Whether the provider runs, and knows the instances of an earlier one."""
        leader = self.leader
        is_running = self.process is not None and self.process.is_running
        return is_running and leader is not None and not leader.controller._adopting

    # --- pods --------------------------------------------------------------------------------------------------------

    def pods(self) -> list[Json]:
        return [pod for pod in self.network.server.store.items("pods") if pod["spec"].get("nodeName") == NODE]

    def find(self, uid: str) -> Json | None:
        return next((pod for pod in self.pods() if pod["metadata"]["uid"] == uid), None)

    def agent_of(self, uid: str) -> Agent | None:
        """The agent that has accepted the pod; the one that ran it first."""
        first = self.ran_on.get(uid)
        if first is not None:
            return self.fleet.agents[first]
        found = [agent for agent in self.fleet.agents.values() if agent.core.uid == uid]
        return min(found, key=lambda agent: (agent.is_gone, agent.boots_at)) if found else None

    def name(self, uid: str) -> str:
        pod = self.find(uid)
        return str(pod["metadata"]["name"]) if pod is not None else uid

    # --- instances ---------------------------------------------------------------------------------------------------

    def note_killed(self, instance_id: str) -> None:
        """The cloud itself ends the instance."""
        self._killed[instance_id] = self.pod_of(instance_id)

    def is_taken_back(self, instance_id: str) -> bool:
        """Whether the cloud has ended it, or has said that it will."""
        return instance_id in self._killed

    def was_killed(self, pod: Json) -> bool:
        uids = {self.pod_of(instance_id) for instance_id in self._killed} | set(self._killed.values())
        message = pod["status"].get("message", "")
        return pod["metadata"]["uid"] in uids or any(name in message for name in self._killed)

    def pod_of(self, instance_id: str) -> str:
        """UID of the pod that an instance serves: by its agent, by the provider, by its tag."""
        agent = self.fleet.agents[instance_id]
        if agent.core.uid:
            return agent.core.uid
        leader = self.leader
        owned = leader.room.table.owned.get(instance_id) if leader is not None else None
        if owned is not None and owned.pod_uid:
            return owned.pod_uid
        return self.cloud.pod_uid_of(instance_id)

    def idle_like(self, instance: Instance) -> list[str]:
        """IDs of the instances of its pool, as that is now, that no pod has."""
        wanted = [instance.tags.get(name) for name in (TAG_POOL, TAG_GROUP)]
        found = [each for each in self.cloud.costing() if [each.tags.get(n) for n in (TAG_POOL, TAG_GROUP)] == wanted]
        return [each.instance_id for each in found if not self.pod_of(each.instance_id)]

    def is_reachable(self, uid: str, now: float) -> bool:
        """Whether the agents of the pod's instances answer: while one does not, nobody knows what runs there."""
        served = [each.instance_id for each in self.cloud.live() if self.pod_of(each.instance_id) == uid]
        agents = [self.fleet.agents[instance_id] for instance_id in served]
        return all(agent.answers(now) and now >= agent.mute_until + FORGIVEN_S for agent in agents)

    def is_looked_for(self, uid: str) -> bool:
        """Whether the provider does not know the pod's instance yet, after its start."""
        record = self.leader.controller.records.get(uid) if self.leader is not None else None
        return record is not None and record.admission.is_looked_for

    def find_unmarked(self, agent: Agent, uid: str) -> str:
        """What its tags say, when it is of a pool and they do not name the pod as the one that has it: then the next
        provider believes the agent when it says that it is empty."""
        tags = self.cloud.tags_of(agent.instance.instance_id)
        if TAG_POOL not in tags or (tags.get(TAG_POD_UID) == uid and TAG_POD_NAMESPACE in tags):
            return ""
        return f"{agent.instance.instance_id} of {self.name(uid)} is tagged {tags.get(TAG_POD_UID)}"


def count_wanted(pool: PoolSettings) -> int:
    """Its windows are always in force."""
    return max((window.count for window in pool.schedule), default=pool.count)


def phase_of(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def condition_of(item: Json, kind: str) -> str:
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == kind), "")


def essence_of(status: Json) -> tuple[Any, ...]:
    """Phase, Ready, and each container's state."""
    containers = [
        (item["name"], *(item.get("state") or {}), item.get("restartCount"), item.get("containerID"))
        for item in status.get("containerStatuses") or []
    ]
    return status.get("phase"), condition_of({"status": status}, "Ready"), *containers
