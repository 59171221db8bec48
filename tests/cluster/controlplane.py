"""Start, stop and use a real control plane in a state directory.

plane = ControlPlane(StateDir(path))
plane.up("10.201.0.1")            # idempotent; returns when pods can be created
plane.kubectl("get", "nodes")
plane.stop("kube-apiserver"); plane.start("kube-apiserver")
plane.down()                      # processes and directory are gone
"""

from __future__ import annotations

import ipaddress
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from tests.cluster.binaries import Binaries, find_binaries
from tests.cluster.components import COMPONENTS, KUBELET_CLIENT, Credentials, arguments, issue_credentials
from tests.cluster.errors import ClusterError
from tests.cluster.kubeconfig import write_certificate_kubeconfig, write_token_kubeconfig
from tests.cluster.kubectl import Kubectl, Result
from tests.cluster.pki import Authority
from tests.cluster.process import Process
from tests.cluster.rest import Rest
from tests.cluster.state import Endpoints, StateDir, choose_endpoints

READY_S = 180.0
"""A few seconds, where nothing else wants the CPUs."""
ADMIN = ("kubernetes-admin", ("system:masters",))


class ControlPlane:
    """The control plane of one state directory; every method works on what an earlier process has started, too."""

    def __init__(self, state: StateDir, out: TextIO | None = None) -> None:
        self.state = state
        self._out = out or sys.stderr
        self._binaries: Binaries | None = None

    # What a caller needs to know.

    @property
    def url(self) -> str:
        """The API server's URL."""
        return self.state.require().url

    @property
    def ca(self) -> Path:
        """The CA that signed the API server's certificate and signs the nodes' serving certificates."""
        return self.state.pki / "ca.crt"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state.kubeconfig("admin")

    @property
    def binaries(self) -> Binaries:
        """The programs; builds them when they are nowhere."""
        if not self._binaries:
            self._binaries = find_binaries(self._out)
        return self._binaries

    @property
    def rest(self) -> Rest:
        """Requests as the administrator."""
        return Rest(self.url, self.ca, (self.state.pki / "admin.crt", self.state.pki / "admin.key"))

    # Life.

    def up(self, address: str, port: int = 0, bind: str | None = None, *, dual_stack: bool = False) -> None:
        """Bring everything up and wait until pods can be created. `dual_stack`: see Endpoints. Raises ClusterError."""
        _require_address(address)
        endpoints = self._endpoints(address, port, bind, dual_stack)
        self.state.save(endpoints)
        credentials = self._write_credentials(endpoints)
        for name in COMPONENTS[:2]:
            self._launch(name, endpoints, credentials)
        self._wait_for("kube-apiserver", lambda: self.rest.answers("/readyz"))
        for name in COMPONENTS[2:]:
            self._launch(name, endpoints, credentials)
        self._grant_kubelet_client()
        for name in COMPONENTS[2:]:
            self._wait_for(name, lambda name=name: self._healthy(name))
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._wait_for("kube-controller-manager", lambda: self.rest.answers(account))

    def down(self) -> None:
        """Stop every process of the state directory and delete it. Fine when there is nothing."""
        names = [process.name for process in self.state.processes()]
        extras = [name for name in names if name not in COMPONENTS]
        for name in [*extras, *reversed(COMPONENTS)]:
            self.state.process(name).stop(limit_s=0.5)  # nothing is kept, so nothing needs a tidy end
        if self.state.marker.exists():
            shutil.rmtree(self.state.root)

    def start(self, name: str) -> None:
        """Start one component again, with its data, and wait until it (for etcd: the API server) answers."""
        endpoints = self.state.require()
        self._launch(name, endpoints, issue_credentials(self.state, endpoints))
        awaited = "kube-apiserver" if name == "etcd" else name
        if name != "etcd" or self.state.process(awaited).pid():
            self._wait_for(awaited, lambda: self._healthy(awaited))

    def stop(self, name: str) -> None:
        """Stop one component; the others go on. An API server with watches open is killed: it would wait for them."""
        self._component(name).stop(limit_s=2)

    def freeze(self, name: str) -> None:
        """SIGSTOP a component: connections stay open and nothing answers."""
        self._component(name).signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT a frozen component."""
        self._component(name).signal(signal.SIGCONT)

    def status(self) -> list[tuple[str, int | None, bool]]:
        """(name, pid or None, healthy) of each component and of what was started beside them."""
        extras = [process.name for process in self.state.processes() if process.name not in COMPONENTS]
        rows = [(name, self.state.process(name).pid()) for name in (*COMPONENTS, *extras)]
        return [(name, pid, pid is not None and self._healthy(name)) for name, pid in rows]

    # Use.

    def kubectl(
        self,
        *args: str,
        check: bool = True,
        stdin: str | None = None,
        kubeconfig: Path | None = None,
        timeout_s: float = 60,
    ) -> Result:
        """Run kubectl as the administrator (or with `kubeconfig`). `check`: a failure raises ClusterError."""
        result = self._kubectl(kubeconfig).run(args, stdin, timeout_s)
        return result.require_success() if check else result

    async def kubectl_async(
        self,
        *args: str,
        check: bool = True,
        stdin: str | None = None,
        kubeconfig: Path | None = None,
        timeout_s: float = 60,
    ) -> Result:
        """The same from an event loop: for logs, exec and the like of a kubelet that runs in the same loop."""
        result = await self._kubectl(kubeconfig).run_async(args, stdin, timeout_s)
        return result.require_success() if check else result

    def kubeconfig_for(self, user: str, groups: Iterable[str] = ()) -> Path:
        """A kubeconfig with a client certificate of `user` in `groups`."""
        path = self.state.kubeconfig(_file_name(user))
        return write_certificate_kubeconfig(path, self.url, self.ca, user, self.client_certificate(user, groups))

    def client_certificate(self, user: str, groups: Iterable[str] = ()) -> tuple[Path, Path]:
        """A client certificate of `user` in `groups`: (certificate path, key path)."""
        self.state.require()
        return Authority(self.state.pki, "ca").issue_client(_file_name(user), user, groups)

    def service_account_kubeconfig(self, namespace: str, name: str, duration_s: int = 24 * 3600) -> Path:
        """A kubeconfig with a token of an existing ServiceAccount."""
        made = self.kubectl("create", "token", name, "--namespace", namespace, f"--duration={duration_s}s")
        path = self.state.kubeconfig(f"sa-{namespace}-{name}")
        return write_token_kubeconfig(path, self.url, self.ca, f"{namespace}-{name}", made.stdout.strip())

    # Inside.

    def _kubectl(self, kubeconfig: Path | None) -> Kubectl:
        return Kubectl(self.binaries["kubectl"], kubeconfig or self.kubeconfig, self.state.root)

    def _endpoints(self, address: str, port: int, bind: str | None, dual_stack: bool) -> Endpoints:
        previous = self.state.load()
        if previous and self.state.process("kube-apiserver").pid():
            wanted = Endpoints(address, bind or previous.bind, port or previous.port, 0, 0, dual_stack)
            if wanted == replace(previous, controller_manager_port=0, scheduler_port=0):
                return previous
            raise ClusterError(
                f"a control plane runs in {self.state.root} at {previous.url}",
                f"python -m tests.cluster down --state {self.state.root}",
            )
        return choose_endpoints(address, port, bind, previous, dual_stack)

    def _write_credentials(self, endpoints: Endpoints) -> Credentials:
        credentials = issue_credentials(self.state, endpoints)
        users: dict[str, tuple[str, tuple[str, ...]]] = {"admin": ADMIN}
        users |= {name: (f"system:{name}", ()) for name in COMPONENTS[2:]}
        for name, (user, groups) in users.items():
            pair = credentials.ca.issue_client(name, user, groups)
            path = self.state.kubeconfig(name)
            write_certificate_kubeconfig(path, endpoints.url, credentials.ca.certificate_path, user, pair)
        return credentials

    def _launch(self, name: str, endpoints: Endpoints, credentials: Credentials) -> None:
        program = str(self.binaries[name])
        self.state.process(name).start([program, *arguments(name, self.state, endpoints, credentials)])

    def _grant_kubelet_client(self) -> None:
        """The API server's own client of the kubelet API needs a role, since RBAC asks for it as well."""
        group, name = "rbac.authorization.k8s.io", "apiserver-kubelet-client"
        manifest = {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": KUBELET_CLIENT}],
        }
        self.rest.apply(f"/apis/{group}/v1/clusterrolebindings/{name}", manifest)

    def _healthy(self, name: str) -> bool:
        endpoints = self.state.require()
        match name:
            case "kube-apiserver":
                return self.rest.answers("/readyz")
            case "kube-controller-manager":
                return Rest(f"https://127.0.0.1:{endpoints.controller_manager_port}", self.ca).answers("/healthz")
            case "kube-scheduler":
                return Rest(f"https://127.0.0.1:{endpoints.scheduler_port}", self.ca).answers("/healthz")
        return self.state.process(name).pid() is not None

    def _wait_for(self, name: str, ready: Callable[[], bool]) -> None:
        """Ask a starting component every 50 ms; there is nothing to watch before it answers."""
        process, deadline = self.state.process(name), time.monotonic() + READY_S
        while not ready():
            self.state.process("etcd").require_alive()
            process.require_alive()
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{name} is not ready after {READY_S:.0f} s:\n{process.last_lines()}", f"read {process.log}"
                )
            time.sleep(0.05)

    def _component(self, name: str) -> Process:
        if name not in COMPONENTS:
            raise ClusterError(f"{name} is no component", f"one of {', '.join(COMPONENTS)}")
        return self.state.process(name)


def _file_name(user: str) -> str:
    return "user-" + "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in user)


def _require_address(address: str) -> None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ClusterError(f"{address} is not an IP address", "give the bridge's address, or 127.0.0.1") from None
