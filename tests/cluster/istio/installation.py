"""Istio in a cluster: the Gateway API's CRDs, istiod by istioctl, and the manifests of manifests/istio filled in."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import build
from tests.cluster.controlplane import ControlPlane
from tests.cluster.errors import ClusterError
from tests.cluster.istio.module import gateway_api_crds
from tests.cluster.kubectl import Result
from tests.cluster.targets import istio_version

NAMESPACE = "istio-system"
MANIFESTS = Path(__file__).resolve().parents[3] / "manifests" / "istio"
INSTALL_LIMIT_S = 180


@dataclass(frozen=True)
class Istio:
    """Istio in the cluster of `plane`, with the images of `registry` (host:port). `directory` keeps what is filled in
    from the manifests."""

    plane: ControlPlane
    registry: str
    directory: Path

    @property
    def program(self) -> Path:
        """istioctl, built when it is missing."""
        return build.ensure("istioctl")

    @property
    def environment(self) -> dict[str, str]:
        """What istioctl is run with; its own files stay apart from the user's."""
        return {**os.environ, "KUBECONFIG": str(self.plane.kubeconfig), "HOME": str(self.directory)}

    def istioctl(self, *arguments: str, check: bool = True, timeout_s: float = 60) -> Result:
        """Run istioctl to its end. `check`: a failure raises ClusterError."""
        ran = subprocess.run(
            [str(self.program), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and ran.returncode:
            raise ClusterError(f"istioctl {' '.join(arguments)} failed with {ran.returncode}: {ran.stderr.strip()}")
        return Result(arguments, ran.returncode, ran.stdout, ran.stderr)

    def manifest(self, name: str) -> Path:
        """manifests/istio/NAME.yaml with this cluster's addresses."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{name}.yaml"
        path.write_text(fill_in((MANIFESTS / f"{name}.yaml").read_text(), self._values()))
        return path

    def _values(self) -> dict[str, str]:
        address, port = self.registry.rsplit(":", 1)
        return {"REGISTRY": self.registry, "VERSION": istio_version(), "ADDRESS": address, "PORT": port}

    def install_gateway_api(self) -> None:
        """The Gateway API's CRDs of the standard channel. They are too large for client-side apply."""
        crds = ["apply", "--server-side", "--force-conflicts", "-f", str(gateway_api_crds())]
        self.plane.kubectl(*crds)
        self.plane.kubectl("wait", "--for=condition=Established", "crd/gateways.gateway.networking.k8s.io")

    def install_arguments(self) -> list[str]:
        """What follows `istioctl` to install it: istiod runs when that has ended."""
        limit = f"--readiness-timeout={INSTALL_LIMIT_S}s"
        return ["install", "--skip-confirmation", limit, "--filename", str(self.manifest("istiod"))]

    def install(self) -> None:
        """Istio, up to a ready istiod. Raises ClusterError."""
        self.install_gateway_api()
        self.istioctl(*self.install_arguments(), timeout_s=INSTALL_LIMIT_S + 60)


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """`text` with each placeholder (a word of its own, in capitals) replaced, but for lines of comments."""
    words = re.compile(rf"\b(?:{'|'.join(values)})\b")
    lines = text.splitlines(keepends=True)
    return "".join(line if line.startswith("#") else words.sub(lambda found: values[found[0]], line) for line in lines)
