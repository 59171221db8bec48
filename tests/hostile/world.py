"""A provider's process, a control plane, the honest pod and hostile ones beside it on the same Node.

Agents and checks run on an event loop of a thread, so that tests (and hypothesis) are plain functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.cluster.controlplane import ControlPlane
from tests.cluster.pki import Authority
from tests.cluster.process import Process
from tests.demo.environment import PROVIDER_GROUPS, PROVIDER_USER
from tests.hostile.agents import HonestAgent, HostileAgent, Script
from tests.hostile.api import Door, Namespace
from tests.hostile.cloud import OWNER, CloudServer
from tests.hostile.honest import HonestPod, check_stranger
from tests.hostile.templates import IMAGE
from vk_provider.cloud.base import TAG_POD_NAME, TAG_POD_UID, Instance, LaunchRequest
from vk_provider.jsontypes import Json
from vk_provider.wire.bootdata import BootData

Result = TypeVar("Result")

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests" / "base"
ROLES = ("namespace.yaml", "serviceaccount.yaml", "clusterrole.yaml", "clusterrolebinding.yaml", "lease-role.yaml")
LIMIT_S = 30.0
ANSWER_LIMIT_S = 5.0
"""No answer about the honest pod takes longer, on a busy machine either. Not a measure of speed."""
MEMORY_BOUND = 150 << 20
"""How much the provider's resident memory may grow under attack, at its peak. A hostile agent may hold one message of
2 MiB that is read, its decoded form (some ten times that, briefly, one at a time), and some buffers of its connections;
a dozen agents attack at once here."""
NAMED_ERRORS = ("its instance runs pod", "the API server refuses the status")
"""Lines of level error that name what an agent did; they have no traceback."""
HONEST = "honest"


class World:
    """`call` runs a coroutine on the loop of the thread. Scripts of hostile pods are kept by pod name."""

    def __init__(self, plane: ControlPlane, root: Path, name: str, *, redial_at_once: bool) -> None:
        self.plane, self.node = plane, name
        self._root = root
        self._flags = ("--redial-at-once",) if redial_at_once else ()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hostile world", daemon=True)
        self._agent_port, self._kubelet_port, self._healthz_port = free_port(), free_port(), free_port()
        self._socket = root / "cloud.sock"
        admin = (plane.state.pki / "admin.crt", plane.state.pki / "admin.key")
        self.api = Door(plane.url, plane.ca, admin)
        self.kubelet = Door(f"https://127.0.0.1:{self._kubelet_port}", plane.ca, admin)
        self.namespace = Namespace(self.api, name)
        self.cloud = CloudServer(self._socket, self._boot, self._end)
        self.scripts: dict[str, Script] = {}
        self.agents: dict[str, HonestAgent | HostileAgent] = {}
        self.addresses: dict[str, tuple[str, str]] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._process = Process("provider", root, root)
        self._log_offset = 0
        self._numbers = 0
        self.honest: HonestPod

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()
        for name in ROLES:
            self.plane.kubectl("apply", "-f", str(MANIFESTS / name))
        (self._root / "provider.toml").write_text(self._config())
        self.call(self.cloud.start())
        self.call(self.namespace.create())
        self.start_provider()
        self.call(until("the Node is Ready", self._is_node_ready))
        self.call(until("a ServiceAccount", self.namespace.has_account))
        self.call(self._start_honest())

    def stop(self) -> None:
        self.call(self.namespace.delete())
        self._process.stop()
        self.call(self.api.ask("DELETE", f"/api/v1/nodes/{self.node}"))
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _stop(self) -> None:
        await self.cloud.stop()
        for agent in self.agents.values():
            await agent.stop()
        if self._stopping:
            await asyncio.wait(self._stopping)
        await self.api.close()
        await self.kubelet.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0.1)  # transports that were aborted close in a later turn

    def call(self, coroutine: Coroutine[Any, Any, Result], limit_s: float = 120.0) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(limit_s)

    def _config(self) -> str:
        pair = Authority(self.plane.state.pki, "ca").issue_server(f"kubelet-{self.node}", self.node, ["127.0.0.1"])
        kubeconfig = self.plane.kubeconfig_for(PROVIDER_USER, PROVIDER_GROUPS)
        return f"""
[cluster]
kubeconfig = "{kubeconfig}"
[[nodes]]
name = "{self.node}"
address = "127.0.0.1"
port = {self._kubelet_port}
[kubelet]
serving_certificate = "files"
certificate_file = "{pair[0]}"
key_file = "{pair[1]}"
client_ca_file = "{self.plane.ca}"
healthz_port = {self._healthz_port}
[identity]
directory = "{self._root / "identity"}"
[pods]
archive_dir = "{self.archive}"
archive_timeout_s = 5.0
[ledger]
file = "{self._root / "ledger"}"
[[registries]]
host = "{IMAGE.partition("/")[0]}"
plain_http = true
[cloud]
owner = "{OWNER}"
[logs]
format = "json"
"""

    @property
    def archive(self) -> Path:
        return self._root / "archive"

    def start_provider(self) -> None:
        """Start it when it does not run; what it finds is what the cloud and the API server have."""
        command = [sys.executable, "-m", "tests.hostile.provider", str(self._root / "provider.toml")]
        command += [str(self._socket), str(self._agent_port), *self._flags]
        self._process.start(command, {"PYTHONPATH": str(ROOT)})

    def restart_provider(self) -> None:
        """SIGKILL, as far as it still runs, and a new one. What it logged so far is judged."""
        self._process.stop(limit_s=0.0)
        self._log_offset = self._process.log.stat().st_size
        self.start_provider()
        self.call(until("the honest pod is served", self._is_served, LIMIT_S))

    async def _is_served(self) -> bool:
        try:
            await self.honest.check()
        except (AssertionError, OSError, ValueError, KeyError):
            return False
        return True

    async def _is_node_ready(self) -> bool:
        status, body = await self.api.ask("GET", f"/api/v1/nodes/{self.node}")
        conditions = json.loads(body)["status"].get("conditions", []) if status == 200 else []
        self._process.require_alive()
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    # --- instances -----------------------------------------------------------------------------------------------

    async def _boot(self, instance: Instance, request: LaunchRequest) -> None:
        name, uid = instance.tags[TAG_POD_NAME], instance.tags[TAG_POD_UID]
        boot = BootData.from_user_data(request.user_data)
        script = self.scripts.get(name)
        agent: HonestAgent | HostileAgent
        if script is None:
            agent = HonestAgent(instance, boot, self._root / "agents")
        else:
            agent = HostileAgent(instance, boot, self._root / "agents", script)
        self.addresses[uid] = instance.primary_ip, instance.pod_ip
        former = self.agents.get(name)
        self.agents[name] = agent
        if former is not None:  # its pod has another instance, and its own is about to end
            self._stop_agent(name, former)
        await agent.start(self._agent_port)

    def _end(self, instance_id: str) -> None:
        for name, agent in list(self.agents.items()):
            if agent.instance.instance_id == instance_id:
                del self.agents[name]
                self._stop_agent(name, agent)

    def _stop_agent(self, name: str, agent: HonestAgent | HostileAgent) -> None:
        task = self._loop.create_task(agent.stop(), name=f"stop {name}")
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    # --- pods ----------------------------------------------------------------------------------------------------

    async def _start_honest(self) -> None:
        pod = await self.namespace.create_pod(self._manifest(HONEST))
        uid = pod["metadata"]["uid"]
        await until("the honest pod's instance", lambda: _now(uid in self.addresses))
        self.honest = HonestPod(pod, self.addresses[uid], self.kubelet, self.namespace)
        await until("the honest pod is served", self._is_served)

    def _manifest(self, name: str) -> Json:
        return {
            "metadata": {"name": name, "labels": {"kind": "honest" if name == HONEST else "hostile", "script": name}},
            "spec": {
                "nodeName": self.node,
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "c", "image": IMAGE, "resources": {"requests": {"cpu": "100m"}}}],
            },
        }

    async def create_hostile(self, script: Script, name: str = "") -> str:
        """A pod whose agent follows the script; its name."""
        self._numbers += 1
        name = name or f"hostile-{self._numbers}"
        self.scripts[name] = script
        await self.namespace.create_pod(self._manifest(name))
        return name

    async def wait_agent(self, name: str, *, given: bool = True) -> HostileAgent:
        """The agent of a hostile pod, as soon as it was given the pod (or, without `given`, runs)."""
        await until(f"an agent for {name}", lambda: _now(name in self.agents))
        agent = self.agents[name]
        assert isinstance(agent, HostileAgent)
        if given:
            async with asyncio.timeout(LIMIT_S):
                await agent.given.wait()
        return agent

    async def remove_hostile(self) -> None:
        """The pods, and their instances at once: no agent goes on after its test."""
        for name in self.scripts:
            await self.namespace.delete_pod(name)
            if name in self.agents:
                self.cloud.cloud.vanish(self.agents[name].instance.instance_id)
        self.scripts.clear()

    # --- judgement -----------------------------------------------------------------------------------------------

    def find_faults(self) -> list[str]:
        """What the provider has logged since the last look beyond naming what agents did; its end, too."""
        with self._process.log.open("rb") as file:
            file.seek(self._log_offset)
            whole = file.read().rpartition(b"\n")[0]
        self._log_offset += len(whole)
        lines = whole.splitlines()
        faults = [text for line in lines if (text := _fault(line))]
        return faults if self._process.pid() is not None else ["the provider has ended", *faults]

    async def check_strangers(self) -> None:
        """No hostile pod has published anything but the cloud's addresses and the spec's containers."""
        for pod in await self.namespace.pods():
            if pod["metadata"]["labels"]["kind"] == "hostile":
                check_stranger(pod, self.addresses.get(pod["metadata"]["uid"]))

    @contextlib.contextmanager
    def watched(self, rounds: int = 3) -> Iterator[Watch]:
        """While the block runs, and for `rounds` at least, the honest pod is asked for everything; afterwards what was
        found is judged, and the provider's memory and log."""
        watch = Watch(self)
        running = asyncio.run_coroutine_threadsafe(watch.run(), self._loop)
        try:
            yield watch
            watch.wait_rounds(rounds)
        finally:
            watch.stop()
            running.result(LIMIT_S)
        self.call(self.honest.check_events())
        self.call(self.check_strangers())
        watch.judge()

    def memory(self, what: str) -> int:
        """VmRSS or VmHWM of the provider, in bytes."""
        text = Path(f"/proc/{self._process.pid()}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(f"{what}:"))

    def forget_peak(self) -> None:
        """From now on VmHWM is the peak since now."""
        Path(f"/proc/{self._process.pid()}/clear_refs").write_text("5")


class Watch:
    """Asks for everything of the honest pod, again and again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stop = False
        self._done = threading.Condition()
        world.forget_peak()
        self._memory_before = world.memory("VmRSS")
        self.rounds = 0
        self.failure: BaseException | None = None
        for door in (world.kubelet, world.api):
            door.longest_s.clear()

    async def run(self) -> None:
        while not self._stop and self.failure is None:
            try:
                await self._world.honest.check()
            except Exception as error:
                self.failure = error
            with self._done:
                self.rounds += 1
                self._done.notify_all()
            await asyncio.sleep(0.1)

    def wait_rounds(self, rounds: int) -> None:
        """`rounds` more, from their beginning to their end."""
        with self._done:
            wanted = self.rounds + rounds + 1
            self._done.wait_for(lambda: self.rounds >= wanted or self.failure is not None, LIMIT_S * rounds)

    def stop(self) -> None:
        self._stop = True

    @property
    def growth(self) -> int:
        """Of the provider's memory at its peak, in bytes."""
        return self._world.memory("VmHWM") - self._memory_before

    def judge(self) -> None:
        if self.failure is not None:
            raise AssertionError(f"the honest pod was not served: {self.failure}") from self.failure
        faults = self._world.find_faults()
        assert not faults, "\n".join(faults)
        slow = {path: round(time_s, 2) for path, time_s in self._world.kubelet.longest_s.items()}
        assert all(time_s < ANSWER_LIMIT_S for time_s in slow.values()), slow
        assert self.growth < MEMORY_BOUND, f"the provider's memory grew by {self.growth >> 20} MiB"


async def until(what: str, look: Callable[[], Awaitable[Any]], limit_s: float = LIMIT_S) -> None:
    """Ask again and again, as nothing announces it."""
    deadline = time.monotonic() + limit_s
    while not await look():
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
        await asyncio.sleep(0.05)


async def _now(value: Any) -> Any:
    return value


def _fault(line: bytes) -> str:
    if line.startswith(b"--- "):
        return ""
    try:
        document = json.loads(line)
    except ValueError:
        return line.decode(errors="replace")
    if "traceback" in document:
        return f"{document['message']}\n{document['traceback']}"
    is_error = document["level"] in ("error", "critical")
    return document["message"] if is_error and not any(text in document["message"] for text in NAMED_ERRORS) else ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
