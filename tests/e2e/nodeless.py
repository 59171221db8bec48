"""The running product in the tests' hands: kubectl, pods, events, instances, the provider's process."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.controlplane import ControlPlane
from tests.cluster.kubectl import Result
from tests.demo import cluster
from tests.demo.environment import NODE, Environment
from tests.e2e.instances import Instances, LiveInstance
from tests.e2e.until import LIMIT_S, until
from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.jsontypes import Json

IMAGE = "busybox:latest"


class Nodeless:
    """One cluster with the provider. `node` is the first of its Nodes."""

    node = NODE

    def __init__(self, environment: Environment, plane: ControlPlane) -> None:
        self.environment = environment
        self.plane = plane
        config = LocalCloudConfig(
            name=environment.name, subnet=environment.subnet, state_dir=str(environment.cloud_state)
        )
        self.instances = Instances(config)

    @property
    def nodes(self) -> tuple[str, ...]:
        return (NODE, *self.environment.more_nodes)

    @property
    def image(self) -> str:
        """A shell with the usual tools, present on every instance."""
        return f"{self.environment.registry}/{IMAGE}"

    @property
    def instance_logs(self) -> list[Path]:
        return sorted(self.environment.cloud_state.glob("*/instances/*/*.log"))

    def kubectl(self, *arguments: str, check: bool = True, stdin: str | None = None, timeout_s: float = 120) -> Result:
        return self.plane.kubectl(*arguments, check=check, stdin=stdin, timeout_s=timeout_s)

    def get(self, kind: str, name: str = "", namespace: str = "") -> Json:
        """An object, or the list of all of a kind."""
        words = ["get", kind, *([name] if name else []), *(["-n", namespace] if namespace else []), "-o", "json"]
        return json.loads(self.kubectl(*words).stdout)

    def all_pods(self) -> list[Json]:
        return json.loads(self.kubectl("get", "pods", "-A", "-o", "json").stdout)["items"]

    def node_condition(self, name: str = NODE, kind: str = "Ready") -> str:
        result = self.kubectl("get", "node", name, "-o", "json", check=False)
        conditions = json.loads(result.stdout)["status"].get("conditions", []) if result.returncode == 0 else []
        return next((item["status"] for item in conditions if item["type"] == kind), "")

    def wait_node_ready(self, name: str = NODE) -> None:
        until(f"Node {name} Ready", lambda: self.node_condition(name) == "True")

    # The provider's process.

    def start_provider(self) -> None:
        cluster.start_provider(self.environment, self.plane)
        cluster.wait_ready(self.environment, self.plane)

    def stop_provider(self) -> None:
        """SIGTERM, as a supervisor does it; it must end by itself."""
        process = self.environment.provider
        pid = process.pid()
        assert pid is not None, "the provider does not run"
        process.signal(signal.SIGTERM)
        until("the provider ends after SIGTERM", lambda: process.pid() is None, 30)

    def kill_provider(self) -> None:
        process = self.environment.provider
        assert process.pid() is not None, "the provider does not run"
        process.signal(signal.SIGKILL)
        until("the provider is dead", lambda: process.pid() is None, 10)

    def provider_log(self) -> str:
        return self.environment.provider.log.read_text(errors="replace")


class Namespace:
    """One test's namespace: what it makes in it is gone afterwards."""

    def __init__(self, nodeless: Nodeless, name: str) -> None:
        self.nodeless = nodeless
        self.name = name

    def kubectl(self, *arguments: str, check: bool = True, stdin: str | None = None, timeout_s: float = 120) -> Result:
        return self.nodeless.kubectl("-n", self.name, *arguments, check=check, stdin=stdin, timeout_s=timeout_s)

    def apply(self, *objects: Json) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, kind: str, name: str = "") -> Json:
        return self.nodeless.get(kind, name, self.name)

    def pod(self, name: str) -> Json:
        return self.get("pod", name)

    def pods_of(self, app: str) -> list[Json]:
        return json.loads(self.kubectl("get", "pods", "-l", f"app={app}", "-o", "json").stdout)["items"]

    def instance(self, name: str) -> LiveInstance:
        return self.nodeless.instances.of_pod(self.pod(name)["metadata"]["uid"])

    def events(self, name: str) -> list[Json]:
        """Events about the object of that name, oldest first."""
        found = json.loads(
            self.kubectl("get", "events", "--field-selector", f"involvedObject.name={name}", "-o", "json").stdout
        )["items"]
        return sorted(found, key=lambda item: item["metadata"]["creationTimestamp"])

    def wait_event(self, name: str, reason: str, words: str = "") -> Json:
        """The event with that reason whose message holds `words`."""

        def look() -> Json | None:
            return next(
                (item for item in self.events(name) if item["reason"] == reason and words in item["message"]), None
            )

        found = until(f"event {reason} {words!r} of {name}", look, explain=lambda: self.describe(name))
        assert found is not None
        return found

    def wait_pod(self, name: str, what: str, holds: Callable[[Json], object], limit_s: float = LIMIT_S) -> Json:
        """The pod as soon as `holds`; describes it when that does not come."""

        def look() -> Json | None:
            pod = self.pod(name)
            return pod if holds(pod) else None

        found = until(f"pod {name}: {what}", look, limit_s, explain=lambda: self.describe(name))
        assert found is not None
        return found

    def wait_ready(self, *names: str) -> list[Json]:
        return [self.wait_pod(name, "Ready", is_ready) for name in names]

    def wait_phase(self, name: str, phase: str, limit_s: float = LIMIT_S) -> Json:
        return self.wait_pod(name, phase, lambda pod: pod["status"].get("phase") == phase, limit_s)

    def wait_waiting(self, name: str, *reasons: str) -> Json:
        """The pod once its first container waits for one of `reasons`."""
        return self.wait_pod(name, f"waiting: {' or '.join(reasons)}", lambda pod: waiting_reason(pod) in reasons)

    def wait_deployed(self, name: str, replicas: int) -> list[Json]:
        """The Ready pods of a Deployment once there are `replicas`, all others gone or ended."""

        def look() -> list[Json]:
            ready = [pod for pod in self.pods_of(name) if is_ready(pod) and not is_deleting(pod)]
            return ready if len(ready) == replicas else []

        return until(
            f"{replicas} Ready pods of {name}", look, explain=lambda: self.kubectl("get", "pods,events").stdout
        )

    def ready_endpoints(self, service: str) -> set[str]:
        """Addresses that the Service sends traffic to."""
        query = ("get", "endpointslices", "-l", f"kubernetes.io/service-name={service}", "-o", "json")
        return {
            address
            for piece in json.loads(self.kubectl(*query).stdout)["items"]
            for endpoint in piece.get("endpoints") or []
            if endpoint["conditions"].get("ready")
            for address in endpoint["addresses"]
        }

    def wait_no_instance(self, uid: str) -> None:
        live = self.nodeless.instances.live
        until("the pod's instance is gone", lambda: not any(item.pod_uid == uid for item in live()))

    def describe(self, name: str) -> str:
        return self.kubectl("describe", "pod", name, check=False).stdout

    def execute(self, name: str, script: str, *flags: str, check: bool = True, stdin: str | None = None) -> Result:
        """`kubectl exec` of a shell script."""
        return self.kubectl("exec", *flags, name, "--", "sh", "-c", script, check=check, stdin=stdin)

    def logs(self, name: str, *flags: str) -> str:
        return self.kubectl("logs", name, *flags).stdout

    @contextmanager
    def background(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """kubectl running beside the test, its output in pipes."""
        plane = self.nodeless.plane
        command = [str(plane.binaries["kubectl"]), "--kubeconfig", str(plane.kubeconfig), "-n", self.name, *arguments]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()


def condition(pod: Json, kind: str) -> Json:
    """A condition of a pod, {} when it has none of that type."""
    return next((item for item in pod["status"].get("conditions") or [] if item["type"] == kind), {})


def is_ready(pod: Json) -> bool:
    return condition(pod, "Ready").get("status") == "True"


def is_deleting(pod: Json) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def container_status(pod: Json, name: str = "") -> Json:
    """The status of a container (the first without a name), {} when there is none yet."""
    statuses = pod["status"].get("containerStatuses") or []
    return next((item for item in statuses if name in ("", item["name"])), {})


def waiting_reason(pod: Json) -> str:
    return str(container_status(pod).get("state", {}).get("waiting", {}).get("reason", ""))


def terminated(pod: Json, name: str = "") -> Json:
    return container_status(pod, name).get("state", {}).get("terminated", {})


def restarts(pod: Json) -> int:
    return sum(item["restartCount"] for item in pod["status"].get("containerStatuses") or [])


def container_ids(pod: Json) -> list[str]:
    return sorted(item.get("containerID", "") for item in pod["status"].get("containerStatuses") or [])
