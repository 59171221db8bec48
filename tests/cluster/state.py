"""The state directory of one control plane, and what is remembered in it."""

from __future__ import annotations

import errno
import json
import socket
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.cluster.cache import cache_dir
from tests.cluster.errors import ClusterError
from tests.cluster.process import Process

SERVICE_CIDR, SERVICE_CIDR6 = "10.96.0.0/16", "fd00:96::/112"
KUBERNETES_SERVICE_IP = "10.96.0.1"
CLUSTER_DNS = "10.96.0.10"
"""Address of the Service kube-dns."""
CLUSTER_DOMAIN = "cluster.local"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the parts listen. `address` is what clients dial, `bind` what the API server listens on; ports are TCP.
    `dual_stack`: Services may have cluster IPs of both families, IPv4 by default."""

    address: str
    bind: str
    port: int
    controller_manager_port: int
    scheduler_port: int
    dual_stack: bool = False

    @property
    def service_cidrs(self) -> str:
        """As components take them."""
        return f"{SERVICE_CIDR},{SERVICE_CIDR6}" if self.dual_stack else SERVICE_CIDR

    @property
    def url(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths below a state directory. `cluster.json` marks it as ours."""

    root: Path

    @property
    def marker(self) -> Path:
        """JSON of Endpoints."""
        return self.root / "cluster.json"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.root / "pki"

    @property
    def etcd_data(self) -> Path:
        """etcd's data directory."""
        return self.root / "etcd"

    @property
    def etcd_socket(self) -> Path:
        """etcd's client socket."""
        return self.root / "etcd.sock"

    def kubeconfig(self, name: str) -> Path:
        """The kubeconfig called `name`; `admin` is the administrator's."""
        return self.root / "kubeconfig" / f"{name}.kubeconfig"

    def process(self, name: str) -> Process:
        """The process called `name`."""
        return Process(name, self.root / "run", self.root / "logs")

    def processes(self) -> list[Process]:
        """Every process that has a pid file here."""
        return [self.process(path.stem) for path in sorted((self.root / "run").glob("*.pid"))]

    def load(self) -> Endpoints | None:
        """The endpoints of the last start, if there was one. Raises ClusterError when the file is not one of ours."""
        try:
            return Endpoints(**json.loads(self.marker.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            advice = f"end what still runs by the pids in {self.root / 'run'}, and remove {self.root}"
            raise ClusterError(f"{self.marker} is corrupt: not the JSON object of a control plane", advice) from None

    def require(self) -> Endpoints:
        """The endpoints of the last start. Raises ClusterError when there was none."""
        endpoints = self.load()
        if not endpoints:
            raise ClusterError(
                f"there is no control plane in {self.root}",
                f"python -m tests.cluster up --state {self.root} --address ADDRESS",
            )
        return endpoints

    def save(self, endpoints: Endpoints) -> None:
        """Remember where the parts listen."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if len(str(self.etcd_socket)) > 100:
            raise ClusterError(f"{self.root} is too long a path for etcd's socket", "choose a shorter --state")
        self.marker.write_text(json.dumps(asdict(endpoints)))


def default_state() -> StateDir:
    """Where the demo's control plane lives unless told otherwise."""
    return StateDir(cache_dir() / "cluster")


def choose_endpoints(
    address: str, port: int, bind: str | None, previous: Endpoints | None, dual_stack: bool = False
) -> Endpoints:
    """Endpoints to start with: port 0 means the last one if it is free, else any. Raises ClusterError if none fits."""
    bind = bind or address
    again = previous if previous and previous.address == address else None
    wanted = port or (again.port if again and _is_free(bind, again.port) else 0)
    chosen = Endpoints(address, bind, wanted, 0, 0, dual_stack)
    if not wanted:
        chosen = replace(chosen, port=_free_port(bind))
    else:
        _require_free(bind, wanted)
    return replace(chosen, controller_manager_port=_free_port("127.0.0.1"), scheduler_port=_free_port("127.0.0.1"))


def _free_port(address: str) -> int:
    with _listen(address, 0) as listener:
        return int(listener.getsockname()[1])


def _is_free(address: str, port: int) -> bool:
    try:
        _require_free(address, port)
    except ClusterError:
        return False
    return True


def _require_free(address: str, port: int) -> None:
    _listen(address, port).close()


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            advice = "choose another --port, or stop what listens there"
            raise ClusterError(f"{address}:{port} is taken", advice) from None
        advice = "bring the bridge with this address up first, or use --address 127.0.0.1"
        raise ClusterError(f"cannot listen on {address}: {error.strerror}", advice) from None
    return listener
