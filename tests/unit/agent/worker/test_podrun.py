"""The worker of one pod between its parts: what survives the agent, a full disk, an end that breaks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.agent.worker.builders import container, pod
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.journal import Journal
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.volumes.pod_volumes import PodVolumes
from vk_provider.agent.worker.gate import NoTables
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.podrun import PodRun, make_volumes
from vk_provider.agent.worker.worker import PodWorker
from vk_provider.wire.session import NodeFacts, PodMessage

FACTS = InstanceFacts("i-1", "10.0.0.2", "10.0.0.3", "t.small", "a", "h")
NODE = NodeFacts(name="n", allocatable={"cpu": "1", "memory": "1Gi"}, clusterDNS=[], clusterDomain="cluster.local")


NO_IMAGES: Any = SimpleNamespace(blobs=None)


class NoContainers:
    """A runtime that answers and runs nothing."""

    async def list_pod_sandboxes(self) -> list[Any]:
        return []

    async def list_containers(self) -> list[Any]:
        return []


class Versioned:
    """A runtime that says who it is."""

    def __init__(self, version: str, recursive: bool) -> None:
        self._version = version
        self._features = pb.RuntimeHandlerFeatures(recursive_read_only_mounts=recursive)

    async def version(self) -> pb.VersionResponse:
        return pb.VersionResponse(runtime_name="containerd", runtime_version=self._version)

    async def handler_features(self) -> pb.RuntimeHandlerFeatures:
        return self._features


@pytest.mark.parametrize(
    ("version", "recursive", "expected"),
    [
        ("1.6.20~ds1", False, (False, False)),
        ("v2.0.5", True, (False, True)),
        ("v2.4.2", True, (True, True)),
        ("2.4.2+unknown", False, (True, False)),
        ("unknown", False, (False, False)),
    ],
)
async def test_volumes_can_do_what_the_runtime_says(
    version: str, recursive: bool, expected: tuple[bool, bool], tmp_path: Path
) -> None:
    runtime: Any = Versioned(version, recursive)
    volumes = await make_volumes(runtime, tmp_path)
    assert (volumes._image_volumes, volumes.recursive_read_only) == expected


def make_memory() -> PodMemory:
    return PodMemory.from_message(
        PodMessage(type="pod", pod=pod(container("main")), references={}, services=[], node=NODE)
    )


def make_run(memory: PodMemory, outbox: Outbox, journal: Journal) -> PodRun:
    runtime: Any = NoContainers()
    volumes = PodVolumes(Path("/none"))
    return PodRun(memory, runtime, NO_IMAGES, outbox, journal, FACTS, volumes, NoTables())


async def test_a_restarted_agent_tells_the_last_status_before_the_runtime_answers(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    outbox = Outbox()
    await make_run(make_memory(), outbox, journal)._publisher.publish()
    outbox.start_session()
    (told,) = await outbox.take()

    runtime: Any = None  # whoever asks it fails
    again = Outbox()
    worker = PodWorker(runtime, NO_IMAGES, again, journal, FACTS, tmp_path, NoTables())
    assert worker.status == told["status"]
    again.start_session()
    assert await again.take() == [told]
    assert worker._memory is not None
    await make_run(worker._memory, again, journal)._publisher.publish()
    assert not again._status_due  # nothing has changed: it is not told twice


async def test_an_agent_without_a_pod_tells_no_status(tmp_path: Path) -> None:
    runtime: Any = None
    outbox = Outbox()
    PodWorker(runtime, NO_IMAGES, outbox, Journal(tmp_path / "journal.json"), FACTS, tmp_path, NoTables())
    outbox.start_session()
    outbox.send_event("u", "Normal", "Pulled", "")
    assert [message["type"] for message in await outbox.take()] == ["event"]


async def test_a_full_disk_does_not_hold_back_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    outbox, memory = Outbox(), make_memory()
    publisher = make_run(memory, outbox, Journal(tmp_path / "journal.json"))._publisher
    monkeypatch.setattr(Journal, "_write", full)
    await publisher.publish()
    memory.failures["main"] = ("ErrImagePull", "no")
    await publisher.publish()
    outbox.start_session()
    (told,) = await outbox.take()
    assert told["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImagePull"
    assert [r.getMessage() for r in caplog.records] == [
        "the pod's state is not kept on the disk: [Errno 28] No space left on device"
    ]


async def test_an_end_that_breaks_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = make_memory()
    run = make_run(memory, Outbox(), Journal(tmp_path / "journal.json"))
    tries: list[int] = []

    async def terminate() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise OSError(5, "Input/output error")
        memory.finished = True

    monkeypatch.setattr(run._termination, "run", terminate)
    monkeypatch.setattr("vk_provider.agent.worker.podrun.TERMINATE_RETRY_S", 0)
    await run._terminate()
    assert tries == [0, 1]


async def test_a_restart_of_all_containers_is_told_once_they_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    main = container("main", restartPolicy="Never", restartPolicyRules=[rule])
    memory = PodMemory.from_message(PodMessage(type="pod", pod=pod(main), references={}, services=[], node=NODE))
    ended = {"terminated": {"exitCode": 42, "reason": "Error"}}
    memory.status["containerStatuses"] = [{"name": "main", "state": ended, "restartCount": 0}]
    memory.restarting_all = True  # and the runtime knows no container any more
    outbox = Outbox()
    run = make_run(memory, outbox, Journal(tmp_path / "journal.json"))

    async def prepare(*_: object) -> None:
        return None

    monkeypatch.setattr(run._lifecycle._preparer, "prepare", prepare)
    outbox.start_session()
    await run._lifecycle.sync()
    assert not memory.restarting_all
    (told,) = await outbox.take()
    (status,) = told["status"]["containerStatuses"]
    assert status["state"]["waiting"]["reason"] == "RestartingAllContainers"
    assert status["restartCount"] == 1
    (condition,) = (c for c in told["status"]["conditions"] if c["type"] == "AllContainersRestarting")
    assert condition["status"] == "False"


async def test_each_volume_that_fails_has_its_own_event(tmp_path: Path) -> None:
    wrong = [
        {"name": name, "hostPath": {"path": path, "type": kind}}
        for name, path, kind in (
            ("h", "/dev/null", "BlockDevice"),
            ("i", "/no/such/path", "File"),
            ("j", "/no/such/dir/f", "FileOrCreate"),
        )
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in wrong]
    made = pod(container("main", volumeMounts=mounts), volumes=wrong)
    message = PodMessage(type="pod", pod=made, references={}, services=[], node=NODE)
    runtime: Any = NoContainers()
    outbox = Outbox()
    volumes = PodVolumes(tmp_path / "kubelet")
    journal = Journal(tmp_path / "journal.json")
    run = PodRun(PodMemory.from_message(message), runtime, NO_IMAGES, outbox, journal, FACTS, volumes, NoTables())
    assert not await run._lifecycle._preparer.ensure_volumes()
    assert [(event["eventType"], event["reason"], event["message"]) for event in outbox.unacknowledged()] == [
        ("Warning", "FailedMount", f'MountVolume.SetUp failed for volume "{name}" : {text}')
        for name, text in (
            ("h", "hostPath type check failed: /dev/null is not a block device, it's a CharDevice"),
            (
                "i",
                "hostPath type check failed, /no/such/path is not a file, unable to determine its type: "
                'path "/no/such/path" does not exist',
            ),
            ("j", "open /no/such/dir/f: no such file or directory"),
        )
    ]


@pytest.mark.parametrize("has_run", [False, True])
async def test_exits_that_were_missed_are_looked_for_only_where_something_has_run(
    has_run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass more is an event more of a container that cannot be created: a kubelet has one a pass, too."""
    memory = make_memory()
    if has_run:
        memory.status = {"containerStatuses": [{"name": "main", "containerID": "containerd://a"}]}
    run = make_run(memory, Outbox(), Journal(tmp_path / "journal.json"))
    looks: list[None] = []
    monkeypatch.setattr(run, "_look_again", lambda: looks.append(None))
    monkeypatch.setattr("vk_provider.agent.worker.podrun.MISSED_EXIT_DELAYS_S", (0.0, 0.0, 0.0))
    await run._settle_resync()
    assert len(looks) == (3 if has_run else 1)
