"""A sandbox and a container of a private containerd, seen through a kubelet server."""

from __future__ import annotations

import uuid

from tests.integration.agent.private_containerd import BUSYBOX_IMAGE, PrivateContainerd
from tests.unit.kubelet.rig import FakeView, running_status
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.runtime import ContainerRuntime


async def start_pod(containerd: PrivateContainerd, runtime: ContainerRuntime, *command: str) -> FakeView:
    """Run one container `c` with the command; the view shows it running."""
    uid = str(uuid.uuid4())
    directory = containerd.directory / "log" / uid
    sandbox_config = pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(name="web", namespace="ns", uid=uid, attempt=0),
        log_directory=str(directory),
        linux=pb.LinuxPodSandboxConfig(cgroup_parent=f"/{containerd.directory.name}/pod{uid}"),
    )
    config = pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name="c", attempt=0),
        image=pb.ImageSpec(image=BUSYBOX_IMAGE),
        command=list(command),
        log_path="c/0.log",
        linux=pb.LinuxContainerConfig(),
    )
    sandbox_id = await runtime.run_pod_sandbox(sandbox_config)
    container_id = await runtime.create_container(sandbox_id, config, sandbox_config)
    await runtime.start_container(container_id)
    log_path = str(directory / "c" / "0.log")
    return FakeView(
        status=running_status(container_id),
        sandbox_id=sandbox_id,
        container=container_id,
        paths={container_id: log_path},
    )
