"""The Services that a container's environment is made of: the newest, whichever form the provider sends them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.worker.builders import container, pod
from tests.unit.agent.worker.workerrig import FACTS, NODE, Rig, WorkerRig
from vk_provider.agent.journal import Journal
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.worker.gate import NoTables
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.podrun import PodRun
from vk_provider.agent.worker.worker import PodWorker

OLD, NEW = [{"name": "old"}], [{"name": "new"}]


def message(references: Any, **more: Any) -> Any:
    return {"type": "pod", "pod": pod(container("main")), "references": references, "node": NODE, **more}


@pytest.fixture
def worker(tmp_path: Path) -> PodWorker:
    outbox, journal = Outbox(), Journal(tmp_path / "journal")
    return PodWorker(None, None, outbox, journal, FACTS, tmp_path, NoTables())


def test_services_come_with_the_pod_and_are_replaced_without_its_references(worker: PodWorker) -> None:
    worker.update(message({"secrets": {}}, services=OLD))
    assert worker._memory is not None and worker._memory.services == OLD
    kept = worker._memory.references
    worker.update({"type": "services", "services": NEW})
    assert worker._memory.services == NEW
    assert worker._memory.references is kept
    worker.update(message({"secrets": {}}, services=OLD))
    assert worker._memory.services == OLD


def test_an_earlier_provider_sends_them_within_the_references(worker: PodWorker) -> None:
    worker.update(message({"services": OLD}))
    assert worker._memory is not None and worker._memory.services == OLD


def test_services_survive_in_the_journal_and_an_earlier_journal_has_them_in_the_references() -> None:
    memory = PodMemory.from_message(message({}, services=NEW))
    again = PodMemory.from_document(json.loads(json.dumps(memory.to_document())))
    assert again is not None and again.services == NEW
    document = memory.to_document()
    document["message"] = message({"services": OLD})
    earlier = PodMemory.from_document(document)
    assert earlier is not None and earlier.services == OLD


def test_services_that_are_not_known_are_none_and_not_empty() -> None:
    assert PodMemory.from_message(message({})).services is None


def running(worker: PodWorker, rig: WorkerRig) -> PodRun:
    """The pod's work begins; what is sent meanwhile wakes it."""
    worker._memory, worker._run = rig.memory, rig.run
    return rig.run


async def test_a_changed_service_makes_no_pass_as_with_a_kubelet_but_is_kept(worker: PodWorker, rig: Rig) -> None:
    world = rig(pod(container("main")))
    run = running(worker, world)
    worker.update({"type": "services", "services": NEW})
    assert not run._wake.is_set() and not run._publisher._dirty.is_set()
    kept = PodMemory.from_document(run._journal.load())
    assert kept is not None and kept.services == world.memory.services == NEW
    worker.update({"type": "references", "references": {}})
    assert run._wake.is_set()


async def test_the_first_services_make_a_pass_since_a_container_may_wait_for_them(worker: PodWorker, rig: Rig) -> None:
    world = rig(pod(container("main")))
    run = running(worker, world)
    world.memory.services = None
    worker.update({"type": "services", "services": []})
    assert run._wake.is_set()
    run._wake.clear()
    worker.update({"type": "services", "services": NEW})
    assert not run._wake.is_set()
