"""ContainerRuntime and ImageStore against a real containerd and runc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.agent.private_containerd import BUSYBOX_IMAGE, PrivateContainerd
from vk_provider.agent import metadata_guard, network
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.images import ImagePullError, ImageStore
from vk_provider.agent.runtime import ContainerRuntime, RuntimeEvent, RuntimeServiceError

pytestmark = pytest.mark.real


def sandbox_config(containerd: PrivateContainerd) -> pb.PodSandboxConfig:
    uid = str(uuid.uuid4())
    return pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(name="web", namespace="default", uid=uid, attempt=0),
        hostname="web",
        log_directory=str(containerd.directory / "log" / uid),
        linux=pb.LinuxPodSandboxConfig(cgroup_parent=f"/{containerd.directory.name}/pod{uid}"),
    )


def container_config(*command: str) -> pb.ContainerConfig:
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name="main", attempt=0),
        image=pb.ImageSpec(image=BUSYBOX_IMAGE),
        command=list(command),
        envs=[pb.KeyValue(key="COLOUR", value=b"blue")],
        log_path="main/0.log",
        linux=pb.LinuxContainerConfig(),
    )


def wait_for_text(path: Path, text: str) -> None:
    """Wait for a file that contains `text`."""
    deadline = time.monotonic() + 5
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{text!r} does not come up in {path}"
        time.sleep(0.01)


class EventLog:
    """Collects a runtime's events so that a test can wait for one."""

    def __init__(self, runtime: ContainerRuntime) -> None:
        self.seen: list[RuntimeEvent] = []
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._collect(runtime))

    async def _collect(self, runtime: ContainerRuntime) -> None:
        async for event in runtime.events():
            self.seen.append(event)
            self._news.set()

    async def wait_for(self, kind: str, container_id: str = "", count: int = 1) -> RuntimeEvent:
        async with asyncio.timeout(20):
            while True:
                found = [e for e in self.seen if e.kind == kind and e.container_id == container_id]
                if len(found) >= count:
                    return found[-1]
                self._news.clear()
                await self._news.wait()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def start_pod(runtime: ContainerRuntime, config: pb.PodSandboxConfig, *command: str) -> tuple[str, str]:
    sandbox_id = await runtime.run_pod_sandbox(config)
    container_id = await runtime.create_container(sandbox_id, container_config(*command), config)
    await runtime.start_container(container_id)
    return sandbox_id, container_id


async def test_a_container_lives_through_all_its_states(containerd: PrivateContainerd, runtime: ContainerRuntime):
    assert (await runtime.version()).runtime_name == "containerd"
    events = EventLog(runtime)
    await events.wait_for("resync")
    config = sandbox_config(containerd)
    sandbox_id, container_id = await start_pod(runtime, config, "sh", "-c", "echo $COLOUR; sleep 60")
    await events.wait_for("start", container_id)

    status = await runtime.container_status(container_id)
    assert status is not None and status.state == pb.CONTAINER_RUNNING
    assert status.log_path == f"{config.log_directory}/main/0.log"
    assert [c.id for c in await runtime.list_containers()] == [container_id]
    assert (await runtime.container_info(container_id))["pid"] > 0
    sandbox = await runtime.pod_sandbox_status(sandbox_id)
    assert sandbox is not None and sandbox.network.ip == containerd.pod_ip
    await asyncio.to_thread(wait_for_text, Path(status.log_path), "stdout F blue")

    await runtime.update_container_resources(container_id, pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20))
    (stats,) = await runtime.list_container_stats(sandbox_id)
    assert stats.attributes.id == container_id
    log_file = Path(status.log_path)
    await asyncio.to_thread(log_file.rename, f"{log_file}.1")
    await runtime.reopen_container_log(container_id)
    await asyncio.to_thread(wait_for_text, log_file, "")

    await runtime.stop_container(container_id, 0)
    assert (await events.wait_for("exit", container_id)).exit_status == 137
    await events.wait_for("delete", container_id)
    status = await runtime.container_status(container_id)
    assert status is not None and (status.state, status.exit_code) == (pb.CONTAINER_EXITED, 137)
    await runtime.remove_container(container_id)
    assert await runtime.container_status(container_id) is None
    await runtime.stop_container(container_id, 0)
    await runtime.stop_pod_sandbox(sandbox_id)
    await events.wait_for("sandbox-exit", sandbox_id)
    await runtime.remove_pod_sandbox(sandbox_id)
    assert await runtime.pod_sandbox_status(sandbox_id) is None
    await events.stop()


async def test_exec_sync_tells_output_exit_code_timeout_and_a_missing_program(
    containerd: PrivateContainerd, runtime: ContainerRuntime
):
    events = EventLog(runtime)
    await events.wait_for("resync")
    _, container_id = await start_pod(runtime, sandbox_config(containerd), "sleep", "60")
    result = await runtime.exec_sync(container_id, ["sh", "-c", "echo out; echo err >&2; exit 7"], 5)
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 7)
    with pytest.raises(RuntimeServiceError) as timeout:
        await runtime.exec_sync(container_id, ["sleep", "30"], 1)
    assert timeout.value.code == "DEADLINE_EXCEEDED"
    with pytest.raises(RuntimeServiceError, match="no-such-program"):
        await runtime.exec_sync(container_id, ["no-such-program"], 5)
    assert (await runtime.exec_sync(container_id, ["true"], 0)).exit_code == 0
    assert [e.kind for e in events.seen if e.container_id == container_id] == ["create", "start"]  # none of an exec
    await events.stop()


async def test_streaming_urls_are_on_loopback(containerd: PrivateContainerd, runtime: ContainerRuntime):
    sandbox_id, container_id = await start_pod(runtime, sandbox_config(containerd), "sleep", "60")
    for url in (
        await runtime.exec_url(container_id, ["true"], False, True, True, False),
        await runtime.attach_url(container_id, False, True, True, False),
        await runtime.port_forward_url(sandbox_id, [80]),
    ):
        assert url.startswith("http://127.0.0.1:")


async def test_containers_and_the_event_stream_survive_a_kill_of_containerd(
    containerd: PrivateContainerd, runtime: ContainerRuntime
):
    events = EventLog(runtime)
    await events.wait_for("resync")
    _, container_id = await start_pod(runtime, sandbox_config(containerd), "sleep", "60")
    containerd.kill(signal.SIGKILL)
    with pytest.raises(RuntimeServiceError) as down:
        await runtime.list_containers()
    assert down.value.code == "UNAVAILABLE"
    await asyncio.to_thread(containerd.launch)
    await runtime.wait_ready(10)
    await events.wait_for("resync", count=2)
    status = await runtime.container_status(container_id)
    assert status is not None and status.state == pb.CONTAINER_RUNNING
    await runtime.stop_container(container_id, 0)
    await events.wait_for("exit", container_id)
    await events.stop()


async def test_wait_ready_names_what_is_missing():
    client = ContainerRuntime("/nonexistent/containerd.sock")
    with pytest.raises(RuntimeServiceError, match="/nonexistent/containerd.sock does not answer"):
        await client.wait_ready(0.1)
    await client.close()


async def test_images_are_found_by_any_spelling_of_their_name(runtime: ContainerRuntime):
    images = ImageStore(runtime)
    for name in ("busybox", "busybox:latest", "docker.io/library/busybox"):
        image = await images.status(name)
        assert image is not None and image.id.startswith("sha256:")
    assert await images.status("no-such-image:1") is None


async def test_a_failing_pull_has_the_kubelets_reason(runtime: ContainerRuntime, containerd: PrivateContainerd):
    images = ImageStore(runtime)
    network.write_registry_hosts({"registry.test": {"server": "127.0.0.1:1", "plain_http": True}}, containerd.certs_dir)
    with pytest.raises(ImagePullError, match="127.0.0.1:1") as pull:
        await images.pull("registry.test/missing:1", [])
    assert pull.value.reason == "ErrImagePull"
    with pytest.raises(ImagePullError) as name:
        await images.pull("Not//An/Image", [])
    assert name.value.reason == "InvalidImageName"


@pytest.mark.parametrize("host_network", [False, True])
async def test_pods_cannot_reach_the_metadata_endpoint(
    containerd: PrivateContainerd, runtime: ContainerRuntime, host_network: bool
):
    """The endpoint is forwarded to, or reached from the instance's own namespace; the guard drops it on the way."""
    with forwarded_http_server(network.METADATA_ADDRESS):
        config = sandbox_config(containerd)
        if host_network:
            config.linux.security_context.namespace_options.network = pb.NODE
            config.ClearField("hostname")
        _, container_id = await start_pod(runtime, config, "sleep", "60")
        fetch = ["sh", "-c", f"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 1 {network.METADATA_ADDRESS} 8080"]
        assert b"reached" in (await runtime.exec_sync(container_id, fetch, 10)).stdout
        await metadata_guard.deny_metadata()
        await metadata_guard.deny_metadata()
        assert (await runtime.exec_sync(container_id, fetch, 10)).stdout == b""
        await metadata_guard.allow_metadata()
        await metadata_guard.allow_metadata()
        assert b"reached" in (await runtime.exec_sync(container_id, fetch, 10)).stdout


@contextlib.contextmanager
def forwarded_http_server(address: str) -> Iterator[None]:
    """A server on `address` in a network namespace behind this one, as the cloud's endpoint is."""
    serve = f"ip link set lo up; ip address add {address}/32 dev lo; "
    serve += "while ! ip link show far0 2>/dev/null; do sleep 0.01; done; "
    serve += "ip link set far0 up; ip route add 10.209.0.0/24 dev far0; "
    serve += 'exec busybox httpd -f -p 8080 -h "$1"'
    with tempfile.TemporaryDirectory() as root:
        Path(root, "index.html").write_text("reached")
        process = subprocess.Popen(["unshare", "--net", "sh", "-c", serve, "sh", root], stdout=subprocess.DEVNULL)
        try:
            wait_until_unshared(process.pid)
            ip = f"link add near0 type veth peer name far0 netns {process.pid}"
            subprocess.run(["ip", *ip.split()], check=True)
            subprocess.run("ip link set near0 up; ip route add 169.254.169.254 dev near0", shell=True, check=True)
            Path("/proc/sys/net/ipv4/conf/near0/proxy_arp").write_text("1")
            wait_for_listener(process.pid)
            yield
        finally:
            process.kill()
            process.wait()


def wait_until_unshared(pid: int) -> None:
    """Wait until the process is in a network namespace of its own."""
    ours = os.readlink("/proc/thread-self/ns/net")
    while os.readlink(f"/proc/{pid}/ns/net") == ours:
        time.sleep(0.005)


def wait_for_listener(pid: int) -> None:
    """Wait until something listens on port 8080 in the process's namespace."""
    deadline = time.monotonic() + 5
    while not re.search(r":1F90 .* 0A ", "".join(Path(f"/proc/{pid}/net/{t}").read_text() for t in ("tcp", "tcp6"))):
        assert time.monotonic() < deadline
        time.sleep(0.005)
