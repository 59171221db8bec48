"""The transcript: what a user would type to see that the node works, and what comes back."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster import build
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.state import CLUSTER_DOMAIN
from tests.demo.aws import AwsSide
from tests.demo.environment import PROJECT, Environment
from tests.demo.terminal import as_typed, heading, show, step

SAMPLE_IMAGE = "busybox:latest"
SIMULATED_NOTE = "the simulated cloud runs no containers: exec, port-forward and curl are left out"


class Showcase:
    """kubectl as a user runs it, in the demo's cluster."""

    def __init__(self, environment: Environment, plane: ControlPlane) -> None:
        self._environment = environment
        self._plane = plane
        self._kubectl = str(plane.binaries["kubectl"])
        self._os_environment = {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}

    def kubectl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run and print `kubectl ...`."""
        command = [self._kubectl, *arguments]
        return show(command, as_typed(["kubectl", *arguments]), environment=self._os_environment, check=check)

    def _json(self, *arguments: str) -> dict:
        return json.loads(self._plane.kubectl(*arguments, "-o", "json").stdout)

    def run(self) -> None:
        self._deploy()
        heading("One instance for each pod")
        self.kubectl("get", "nodes", "-o", "wide")
        self.kubectl("get", "pods", "-o", "wide")
        self._instances()
        web = self._first_web_pod()
        heading("Logs of a running and of a completed pod")
        self.kubectl("logs", "pair", "-c", "reader", "--tail=3")
        self.kubectl("logs", "job/report", "--all-containers")
        if self._environment.runs_containers:
            heading("exec, with the exit code of the command")
            self.kubectl("exec", web, "--", "hostname")
            result = self.kubectl("exec", web, "--", "sh", "-c", "exit 7", check=False)
            print(f"$ echo $?\n{result.returncode}")
            if result.returncode != 7:
                raise ClusterError(
                    f"kubectl exec ended with {result.returncode}, not 7", f"read {self._environment.provider.log}"
                )
            heading("port-forward, answered by curl")
            self._port_forward(web)
            heading("A Service from within a pod: its name, its address, a connection through it")
            self._service()
        else:
            print(f"\n{SIMULATED_NOTE}")
        heading("Which instance, at what price and why")
        self.kubectl("describe", "pod", "pair")
        heading("Delete: the instance goes with the pod")
        self.kubectl("delete", "pod", "pair")
        self.kubectl("get", "pods")
        self._instances()

    def _deploy(self) -> None:
        text = (PROJECT / "manifests" / "demo" / "sample.yaml").read_text()
        text = text.replace("REGISTRY", self._environment.registry)
        path = self._environment.root / "sample.yaml"
        path.write_text(text)
        heading("Deploy a Deployment of 3, a Job with an init container, a pod with two containers")
        self._plane.kubectl("delete", "-f", str(path), "--ignore-not-found", "--wait=true")
        with step("service account of the default namespace"):
            self._await_service_account()
        self.kubectl("apply", "-f", str(path))
        with step("Deployment available"):
            self._wait("deployment/web", "condition=Available")
        with step("Job complete"):
            self._wait("job/report", "condition=Complete")
        with step("pod with two containers Ready"):
            self._wait("pod/pair", "condition=Ready")

    def _await_service_account(self) -> None:
        for _ in range(100):
            if self._plane.kubectl("get", "serviceaccount", "default", check=False).returncode == 0:
                return
            time.sleep(0.2)
        raise ClusterError("the default ServiceAccount does not appear", "read the controller manager's log")

    def _wait(self, target: str, condition: str) -> None:
        result = self._plane.kubectl("wait", target, f"--for={condition}", "--timeout=180s", check=False, timeout_s=190)
        if result.returncode != 0:
            print(self._plane.kubectl("get", "pods,events", check=False).stdout)
            raise ClusterError(
                f"{target} did not get {condition}: {result.stderr.strip()}", f"read {self._environment.provider.log}"
            )

    def _first_web_pod(self) -> str:
        pods = self._json("get", "pods", "-l", "app=web")["items"]
        return str(pods[0]["metadata"]["name"])

    def _instances(self) -> None:
        if self._environment.cloud == "aws":
            arguments = AwsSide(self._environment).status_arguments()
            environment = self._environment.provider_environment()
            show([sys.executable, *arguments], f"python {' '.join(arguments)}", environment=environment)
            return
        if self._environment.cloud != "local":
            return
        show(
            [sys.executable, "-m", "vk_provider", *status_arguments(self._environment)],
            f"vk-provider {' '.join(status_arguments(self._environment))}",
            environment=self._environment.provider_environment(),
        )

    def _service(self) -> None:
        """The name leads to the Service's cluster address, and that to one of the three pods."""
        self.kubectl("get", "service,endpointslices", "-l", "app=web")
        name = f"web.default.svc.{CLUSTER_DOMAIN}"
        found = self.kubectl("exec", "pair", "-c", "reader", "--", "nslookup", "-type=a", name)
        address = self._json("get", "service", "web")["spec"]["clusterIP"]
        if address not in found.stdout:
            raise ClusterError(f"{name} is not {address}", "kubectl -n kube-system logs deployment/coredns")
        self.kubectl("exec", "pair", "-c", "reader", "--", "wget", "-qO-", "http://web/")

    def _port_forward(self, pod: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [self._kubectl, "port-forward", "--pod-running-timeout=30s", f"pod/{pod}", f"{port}:8080"]
        print(f"$ kubectl port-forward pod/{pod} {port}:8080 &", flush=True)
        with subprocess.Popen(command, env=self._os_environment, stdout=subprocess.PIPE, text=True) as forward:
            try:
                assert forward.stdout is not None
                line = forward.stdout.readline()
                if not re.match("Forwarding from", line):
                    raise ClusterError(f"kubectl port-forward said {line!r}", f"read {self._environment.provider.log}")
                print(line, end="")
                show(["curl", "-sS", "--max-time", "10", f"http://127.0.0.1:{port}/"], environment=self._os_environment)
            finally:
                forward.terminate()


def status_arguments(environment: Environment) -> list[str]:
    """What shows the demo's instances, after `vk-provider`."""
    return ["local-cloud", "status", "--name", environment.name, "--state-dir", str(environment.cloud_state)]


def closing_words(environment: Environment, kubeconfig: Path) -> None:
    kubectl = control_kubectl(environment)
    heading("Yours to go on with")
    print(f"export KUBECONFIG={kubeconfig}\nalias kubectl={kubectl}")
    if environment.cloud == "local":
        print(f"alias vk-provider='PYTHONPATH={PROJECT} {sys.executable} -m vk_provider'")
        print(f"The provider has {environment.config_file} and writes {environment.provider.log.name} beside it.")
        print(f"Instances reach this machine and each other, not the Internet. Push images to {environment.registry}")
        print(f"(plain HTTP) and name them {environment.registry}/NAME:TAG; README.md has the commands.")
        if environment.resolver:
            print(f"In pods, Services have their names, and this machine is host.{environment.name}.internal.")
    if environment.mesh:
        print(f"alias istioctl={build.built_path('istioctl')}")
    if environment.taint:
        print(f"Pods need to tolerate virtual-kubelet.io/provider, as those of {environment.root / 'sample.yaml'} do.")
    print("make demo-metrics makes `kubectl top` work; make demo-down takes everything away again.")


def control_kubectl(environment: Environment) -> str:
    from tests.demo.cluster import control_plane

    return str(control_plane(environment).binaries["kubectl"])
