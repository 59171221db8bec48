"""When a Node is known, and since when the API server renews its Lease."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.node import lease
from vk_provider.node.controller import NodeController
from vk_provider.node.lease import NodeLease
from vk_provider.node.object import build_node
from vk_provider.node.resources import build_resources
from vk_provider.node.spec import NodeSpec

SPEC = NodeSpec("n1", "10.0.0.1", {"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "1Ti"})


class Nodes:
    """The part of KubeClient that a registration uses. `existing`: the Node that is there already."""

    def __init__(self, existing: Json | None) -> None:
        self.existing = existing

    async def create(self, path: str, body: Json) -> Json:
        if self.existing is not None:
            raise KubeApiError(409, "AlreadyExists", "nodes n1 already exists")
        return {**body, "metadata": {**body["metadata"], "uid": "new", "resourceVersion": "1"}}

    async def get(self, path: str) -> Json:
        assert self.existing is not None
        return self.existing


class Recorder:
    def record(self, *_: Any, **__: Any) -> None: ...


def existing() -> Json:
    node = build_node(SPEC, [], 0.0)
    node["metadata"] |= {"uid": "old", "resourceVersion": "7"}
    return node


@pytest.mark.parametrize(("there", "uid"), [(None, "new"), (existing(), "old")])
async def test_who_waits_for_the_node_is_told_once_it_was_registered_or_read(there: Json | None, uid: str) -> None:
    known: list[Json | None] = []
    client: Any = Nodes(there)
    recorder: Any = Recorder()
    controller = NodeController(client, recorder, SPEC, on_known=lambda: known.append(controller.node))
    assert controller.node is None
    await controller._register()
    (node,) = known
    assert node is not None and node["metadata"]["uid"] == uid


class Patched(Nodes):
    """An API server that stores addresses in a form of its own and knows no field `unknown`."""

    def __init__(self) -> None:
        super().__init__(None)
        self.patches: list[Json] = []
        self.node: Json = {}

    async def create(self, path: str, body: Json) -> Json:
        self.node = await super().create(path, body)
        self.node = {**self.node, "status": self._keep(self.node["status"])}
        return self.node

    async def patch_strategic(self, path: str, body: Json, timeout_s: float) -> Json:
        self.patches.append(body)
        merged = {**self.node["status"], **body["status"]}
        addresses = body["status"]["addresses"]
        if {"$patch": "replace"} not in addresses:  # the API merges by type
            addresses = list({each["type"]: each for each in (*self.node["status"]["addresses"], *addresses)}.values())
        merged["addresses"] = [each for each in addresses if "type" in each]
        for name in ("capacity", "allocatable"):  # maps are merged, and null removes an entry
            amounts = {**self.node["status"][name], **body["status"][name]}
            merged[name] = {key: amount for key, amount in amounts.items() if amount is not None}
        self.node = {**self.node, "status": self._keep(merged)}
        return self.node

    def change(self, version: str, **changed: Any) -> Json:
        """Another writer's change of the status, as the watch delivers it."""
        metadata = {**self.node["metadata"], "resourceVersion": version}
        status = {name: value for name, value in {**self.node["status"], **changed}.items() if value is not None}
        self.node = {**self.node, "metadata": metadata, "status": status}
        return self.node

    def _keep(self, status: Json) -> Json:
        kept = {name: value for name, value in status.items() if value is not None}
        return {**kept, "addresses": sorted(status["addresses"], key=lambda each: each["type"])}


async def test_what_others_change_of_the_status_is_put_right_and_another_form_of_it_is_left() -> None:
    client: Any = Patched()
    recorder: Any = Recorder()
    controller = NodeController(client, recorder, replace(SPEC, declared_features=("A",)))
    await controller._register()
    await controller._report()
    assert client.patches == []
    for version, features in (("2", None), ("3", ["A", "B"])):
        controller._observe("MODIFIED", client.change(version, declaredFeatures=features))
        await controller._report()
        assert client.patches.pop()["status"]["declaredFeatures"] == ["A"]
        await controller._report()
        assert client.patches == []


async def test_both_addresses_of_a_node_survive_a_patch_and_one_that_is_gone_does_not() -> None:
    client: Any = Patched()
    recorder: Any = Recorder()
    for second, wanted in (("fd00::1", ["10.0.0.1", "fd00::1"]), ("", ["10.0.0.1"])):
        controller = NodeController(client, recorder, replace(SPEC, second_ip=second))
        controller._node = client.node or None
        if controller._node is None:
            await controller._register()
        controller._observe("MODIFIED", client.change("2", declaredFeatures=["B"]))
        await controller._report()
        addresses = client.node["status"]["addresses"]
        assert [each["address"] for each in addresses if each["type"] == "InternalIP"] == wanted


async def test_an_extended_resource_of_an_administrator_becomes_allocatable_and_goes_with_its_capacity() -> None:
    client: Any = Patched()
    recorder: Any = Recorder()
    controller = NodeController(client, recorder, SPEC)
    await controller._register()
    await controller._report()
    own = dict(SPEC.capacity)
    controller._observe("MODIFIED", client.change("2", capacity={**own, "example.com/dongle": "4"}))
    assert controller._wake.is_set(), "it waits for no interval"
    await controller._report()
    (patch,) = client.patches
    assert patch["status"]["capacity"] == own, "what was read may be older than what the administrator writes next"
    assert client.node["status"]["allocatable"] == {**own, "example.com/dongle": "4"}
    controller._observe("MODIFIED", client.change("3", capacity=own))
    await controller._report()
    assert client.node["status"]["capacity"] == client.node["status"]["allocatable"] == own
    client.patches.clear()
    await controller._report()
    assert client.patches == [], "a removal is not repeated"


async def test_an_extended_resource_outlives_the_provider() -> None:
    """A kubelet that starts sets it to 0, as its machine may be a new one."""
    there = existing()
    there["status"]["capacity"] = {**SPEC.capacity, "example.com/dongle": "4"}
    client: Any = Nodes(there)
    recorder: Any = Recorder()
    controller = NodeController(client, recorder, SPEC)
    await controller._register()
    assert controller.node is not None
    capacity, allocatable = build_resources(SPEC, controller.node["status"])
    assert "example.com/dongle" not in capacity, "what is there stays"
    assert allocatable["example.com/dongle"] == "4"


class Leases:
    """Answers as `outcomes` say, and notes since when it has been answering, then waits for ever."""

    def __init__(self, outcomes: list[bool]) -> None:
        self.outcomes = outcomes
        self.seen: list[bool] = []
        self.lease: NodeLease

    async def get(self, path: str, timeout_s: float) -> Json:
        return {"metadata": {}, "spec": {}}

    async def put(self, path: str, body: Json, timeout_s: float) -> Json:
        self.seen.append(bool(self.lease.answering_since))
        if not self.outcomes:
            await asyncio.Event().wait()
        if self.outcomes.pop(0):
            return body
        raise KubeApiError(0, "Unreachable", "no answer")


async def test_the_time_since_the_lease_is_renewed_begins_anew_with_each_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.0)
    monkeypatch.setattr(lease.Backoff, "next_delay_s", lambda self: 0.0)
    client: Any = Leases([True, True, False, True])
    client.lease = NodeLease(client, "n1")
    task = asyncio.create_task(client.lease.run())
    async with asyncio.timeout(30):
        while len(client.seen) < 5:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)
    assert client.seen == [False, True, True, False, True]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
