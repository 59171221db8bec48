"""The annotations that a kubelet adds to its own copy of a pod (pkg/kubelet/config/config.go, localAnnotations)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.worker.builders import container, pod
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.facts import InstanceFacts
from vk_provider.agent.journal import Journal
from vk_provider.agent.outbox import Outbox
from vk_provider.agent.worker.gate import NoTables
from vk_provider.agent.worker.memory import PodMemory
from vk_provider.agent.worker.sandbox.config import build_sandbox_config
from vk_provider.agent.worker.worker import PodWorker
from vk_provider.jsontypes import Json
from vk_provider.podmodel.context import PodContext
from vk_provider.podmodel.dns import DnsConfig
from vk_provider.podmodel.environment import build_environment
from vk_provider.podmodel.projection import build_volume_files
from vk_provider.wire.session import NodeFacts, PodMessage

NODE = NodeFacts(name="n", allocatable={"cpu": "1", "memory": "1Gi"}, clusterDNS=[], clusterDomain="cluster.local")
FACTS = InstanceFacts("i-1", "10.0.0.2", "10.0.0.3", "t.small", "a", "h")
NOBODY: Any = None
SEEN = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
FILE: Json = {
    "name": "d",
    "downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.annotations"}}]},
}


def message(annotations: dict[str, str] | None = None, **spec: Any) -> PodMessage:
    of = pod(container("main"), **spec)
    if annotations is not None:
        of["metadata"]["annotations"] = annotations
    return PodMessage(type="pod", pod=of, references={}, services=[], node=NODE)


def shown(memory: PodMemory) -> str:
    return build_volume_files(FILE, memory.pod, {}, PodContext(node=NODE))["a"].data.decode()


@pytest.mark.parametrize(
    ("own", "before", "after"),
    [
        (None, "", ""),
        ({"a": "1", "z": "2"}, 'a="1"\n', '\nz="2"'),
        ({"kubernetes.io/config.source": "file", "kubernetes.io/config.seen": "never"}, "", ""),
    ],
)
def test_a_downward_api_file_shows_where_and_when_the_pod_was_seen(
    own: dict[str, str] | None, before: str, after: str
) -> None:
    memory = PodMemory.from_message(message(own))
    lines = f'kubernetes\\.io/config\\.seen="{SEEN}"\nkubernetes\\.io/config\\.source="api"'
    assert re.fullmatch(re.escape(before) + lines + re.escape(after), shown(memory))


def test_a_variable_shows_the_source() -> None:
    path = "metadata.annotations['kubernetes.io/config.source']"
    env = [{"name": "SOURCE", "valueFrom": {"fieldRef": {"fieldPath": path}}}]
    memory = PodMemory.from_message(message())
    variables = build_environment(memory.pod, container("main", env=env), {}, [], PodContext(node=NODE))
    assert ("SOURCE", "api") in variables


def test_the_runtime_is_told_the_annotations() -> None:
    memory = PodMemory.from_message(message())
    config: pb.PodSandboxConfig = build_sandbox_config(memory.pod, 0, DnsConfig(), "web")
    assert config.annotations["kubernetes.io/config.source"] == "api"


def test_a_changed_pod_and_a_restarted_agent_keep_the_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    worker = PodWorker(NOBODY, NOBODY, Outbox(), journal, FACTS, tmp_path, NoTables())
    worker.update(message())
    assert worker._memory is not None
    first = shown(worker._memory)
    worker.update(message({"b": "1"}))
    assert shown(worker._memory) == f'b="1"\n{first}'
    journal.save(worker._memory.to_document())
    again = PodWorker(NOBODY, NOBODY, Outbox(), journal, FACTS, tmp_path, NoTables())
    assert again._memory is not None and shown(again._memory) == f'b="1"\n{first}'


def test_the_messages_pod_is_left_as_it_is() -> None:
    sent = message({"b": "1"})
    PodMemory.from_message(sent)
    assert sent["pod"]["metadata"]["annotations"] == {"b": "1"}
