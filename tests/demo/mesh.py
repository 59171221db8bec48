"""`make demo-istio`: what a mesh shows on nodeless instances, as a user types it, and what comes back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.istio.installation import NAMESPACE, Istio
from tests.demo.environment import Environment
from tests.demo.showcase import Showcase
from tests.demo.terminal import as_typed, heading, show, step

SETTLE_LIMIT_S = 60.0
"""From a change of configuration to its effect in every proxy; usually less than a second."""
READY_S = 180
LASTING = ("strict", "split", "gateway", "job", "last-words")
"""What a transcript leaves in the cluster for its reader; the next one begins without it."""
Done = subprocess.CompletedProcess[str]
LINES = ("-w", "\\n")
CODES = ("-o", "/dev/null", "-w", "%{http_code}\\n")
"""What curl prints of each answer: its body, or its status alone."""
HOST = ("-H", "Host: web.example.com")


class MeshShowcase(Showcase):
    """kubectl and istioctl as a user runs them, in the cluster of the mesh."""

    def __init__(self, environment: Environment, plane: ControlPlane) -> None:
        super().__init__(environment, plane)
        self._plane = plane
        self._istio = Istio(plane, environment.registry, environment.root / "istio")

    def istioctl(self, *arguments: str, check: bool = True) -> Done:
        """Run and print `istioctl ...`."""
        command = [str(self._istio.program), *arguments]
        return show(command, as_typed(["istioctl", *arguments]), environment=self._istio.environment, check=check)

    def run(self) -> None:
        self._install()
        self._deploy_services()
        self._interception()
        self._identities()
        self._split()
        self._gateway()
        self._authorization()
        self._failures()
        self._egress()
        self._lifecycle()
        self._verdict()

    def _install(self) -> None:
        heading("Istio: the Gateway API, then istiod on an instance of its own")
        with step("CRDs of the Gateway API"):
            self._istio.install_gateway_api()
        self.istioctl(*self._istio.install_arguments())
        self.kubectl("get", "pods", "-n", NAMESPACE, "-o", "wide")

    def _deploy_services(self) -> None:
        heading("Two services and a client, each pod with a sidecar that nobody wrote into it; one pod without")
        for name in LASTING:
            self._plane.kubectl("delete", "-f", str(self._istio.manifest(name)), "--ignore-not-found")
        self._apply("app")
        with step("pods Ready, each on an instance of its own"):
            for target in ("deployment/web-v1", "deployment/web-v2", "deployment/api"):
                self._await("mesh", target, "condition=Available")
            self._await("mesh", "pod/client", "condition=Ready")
            self._await("plain", "pod/outsider", "condition=Ready")
        self.kubectl("get", "pods", "-n", "mesh", "-o", "wide")

    def _interception(self) -> None:
        heading("istio-init's rules in the pod's network namespace")
        self.kubectl("logs", "-n", "mesh", "client", "-c", "istio-init", "--tail=30")
        heading("A native sidecar: an init container that stays; the application's probe goes through the agent")
        containers = "{range .spec.initContainers[*]}{.name}{'\\t'}{.restartPolicy}{'\\n'}{end}"
        probes = "{.spec.containers[0].readinessProbe.httpGet}{'\\n'}"
        self.kubectl("get", "pods", "-n", "mesh", "client", "-o", f"jsonpath={containers}")
        self.kubectl("get", "pods", "-n", "mesh", "-l", "app=api", "-o", f"jsonpath={{range .items[*]}}{probes}{{end}}")

    def _identities(self) -> None:
        heading("Mutual TLS: what the server is told about who called")
        self._curl("client", "http://web/header?key=X-Forwarded-Client-Cert")
        heading("A pod outside of the mesh: let in while the mesh is permissive, refused when it is strict; reached")
        self._curl("outsider", "http://web.mesh/hostname")
        self._apply("strict")
        self._await_answer("outsider", "http://web.mesh/hostname", holds=lambda done: done.returncode != 0)
        self._curl("outsider", "http://web.mesh/hostname", check=False)
        self._curl("client", "http://outsider.plain/hostname")

    def _split(self) -> None:
        heading("Nine requests of ten to v1, one to v2")
        self._apply("split")
        url = "http://web/hostname"
        self._await_answer("client", *LINES, f"{url}?[1-100]", holds=lambda done: _share(done, "web-v2") <= 30)
        self._tally("client", url, *LINES)

    def _gateway(self) -> None:
        heading("A Gateway: istiod deploys it, and a route leads through it")
        self._apply("gateway")
        with step("Gateway programmed"):
            self._await("mesh", "gateway/front", "condition=Programmed")
            self._await("mesh", "deployment/front-istio", "condition=Available")
        self.kubectl("get", "gateway", "-n", "mesh")
        self.kubectl("get", "deployment,service", "-n", "mesh", "-l", "gateway.networking.k8s.io/gateway-name=front")
        url = "http://front-istio.mesh/hostname"
        self._await_answer("outsider", *HOST, url, holds=lambda done: done.stdout.startswith("web-"))
        self._tally("outsider", url, *LINES, *HOST)

    def _authorization(self) -> None:
        heading("Only web may call api")
        through_web = "http://web/dial?host=api&port=80&request=hostname&protocol=http"
        with self._applied("authorization"):
            self._await_answer("client", "http://api/hostname", holds=lambda done: "denied" in done.stdout)
            self._curl("client", "-w", " %{http_code}\\n", "http://api/hostname")
            self._curl("client", through_web)
        self._await_answer("client", *CODES, "http://api/hostname?[1-30]", holds=lambda done: "403" not in done.stdout)

    def _failures(self) -> None:
        heading("An endpoint that always fails")
        url = "http://api/hostname"
        with self._applied("broken"):
            with step("the failing endpoint is there"):
                self._await("mesh", "deployment/api-broken", "condition=Available")
            self._await_answer("client", *CODES, f"{url}?[1-30]", holds=lambda done: "503" in done.stdout)
            self._tally("client", url, *CODES)
            heading("Tried again elsewhere; and what takes too long is given up")
            self._apply("resilience")
            self._await_answer("client", *CODES, f"{url}?[1-60]", holds=lambda done: "503" not in done.stdout)
            self._tally("client", url, *CODES)
            self._curl("client", "-w", " %{http_code} after %{time_total} s\\n", "http://api/shell?cmd=sleep+5")
            heading("Left out after three failures, without any retry")
            self._apply("broken")
            with self._applied("outlier"):
                self._await_answer("client", *CODES, f"{url}?[1-60]", holds=lambda done: "503" not in done.stdout)
                self._tally("client", url, *CODES)
                cluster = "outbound|80||api.mesh.svc.cluster.local"
                self.istioctl("proxy-config", "endpoints", "client.mesh", "--cluster", cluster)

    def _egress(self) -> None:
        heading("Out of the mesh: only what is registered")
        url = f"http://{self._environment.registry}/v2/"
        with self._applied("egress"):
            self._await_answer("client", *CODES, url, holds=lambda done: done.returncode != 0)
            self._curl("client", *CODES, url, check=False)
            with self._applied("registered"):
                self._await_answer("client", *CODES, url, holds=lambda done: "200" in done.stdout)
                self._curl("client", *CODES, url)

    def _lifecycle(self) -> None:
        heading("A Job with a sidecar completes")
        self._apply("job")
        with step("Job complete"):
            self._await("mesh", "job/report", "condition=Complete")
        self.kubectl("logs", "-n", "mesh", "job/report", "-c", "report")
        heading("The application's last words still go through its sidecar")
        self._apply("last-words")
        self._await("mesh", "pod/last-words", "condition=Ready")
        print("$ kubectl logs -f -n mesh last-words & kubectl delete pod -n mesh last-words", flush=True)
        follow = [self._kubectl, "logs", "-f", "-n", "mesh", "last-words", "-c", "main"]
        with subprocess.Popen(follow, env=self._os_environment, text=True) as following:
            try:
                self._plane.kubectl("delete", "pod", "-n", "mesh", "last-words")
                following.wait(30)
            finally:
                following.kill()

    def _verdict(self) -> None:
        heading("What istioctl says")
        self.istioctl("proxy-status", "--verbosity", "1")
        self.istioctl("analyze", "-n", "mesh")

    # How.

    def _apply(self, name: str) -> None:
        self.kubectl("apply", "-f", str(self._istio.manifest(name)))

    def _applied(self, name: str) -> _Applied:
        return _Applied(self, str(self._istio.manifest(name)))

    def _await(self, namespace: str, target: str, condition: str) -> None:
        words = ["wait", "-n", namespace, target, f"--for={condition}", f"--timeout={READY_S}s"]
        result = self._plane.kubectl(*words, check=False, timeout_s=READY_S + 20)
        if result.returncode != 0:
            print(self._plane.kubectl("get", "pods,events", "-n", namespace, check=False).stdout)
            raise ClusterError(f"{target} did not get {condition}: {result.stderr.strip()}")

    def _exec(self, pod: str) -> list[str]:
        namespace = "plain" if pod == "outsider" else "mesh"
        return ["exec", "-n", namespace, pod, "--"]

    def _curl(self, pod: str, *arguments: str, check: bool = True) -> Done:
        return self.kubectl(*self._exec(pod), "curl", "-sS", "--max-time", "5", *arguments, check=check)

    def _tally(self, pod: str, url: str, *flags: str) -> None:
        """500 requests, and how many answers there were of each kind (of the names of pods: their Deployment)."""
        curl = as_typed(["curl", "-s", *flags, f"{url}?[1-500]"])
        self.kubectl(*self._exec(pod), "sh", "-c", f"{curl} | cut -d- -f1-2 | sort | uniq -c")

    def _await_answer(self, pod: str, *arguments: str, holds: Callable[[Done], bool]) -> None:
        """Until `holds` of what curl does with `arguments`: until every proxy has the configuration."""
        command = [self._kubectl, *self._exec(pod), "curl", "-sS", "--max-time", "5", *arguments]
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while True:
            done = subprocess.run(command, env=self._os_environment, capture_output=True, text=True, check=False)
            if holds(done):
                return
            if time.monotonic() > deadline:
                raise ClusterError(f"not within {SETTLE_LIMIT_S:.0f} s; last: {done.stdout}{done.stderr}")
            time.sleep(0.5)


class _Applied:
    """A manifest that is deleted again, shown both times."""

    def __init__(self, showcase: MeshShowcase, path: str) -> None:
        self._showcase, self._path = showcase, path

    def __enter__(self) -> None:
        self._showcase.kubectl("apply", "-f", self._path)

    def __exit__(self, *exception: object) -> None:
        self._showcase.kubectl("delete", "-f", self._path, check=exception[0] is None)


def _share(done: Done, name: str) -> int:
    """How many lines of a hundred answers begin with `name`."""
    return sum(line.startswith(name) for line in done.stdout.splitlines())
