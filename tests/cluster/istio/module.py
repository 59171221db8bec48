"""Files of Go modules, read where the module cache has them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.targets import ISTIO, ISTIO_MODULE

GATEWAY_API = "sigs.k8s.io/gateway-api"
BOOTSTRAP = Path("tools/packaging/common/envoy_bootstrap.json")
STANDARD_CHANNEL = Path("config/crd/standard")


def module_directory(path: str) -> Path:
    """The directory of the module `path` in the version that Istio is built with; fetched when it is not there yet.
    Raises ClusterError."""
    command = ["go", "mod", "download", "-json", path]
    ran = subprocess.run(command, cwd=ISTIO_MODULE, capture_output=True, text=True, check=False)
    found = json.loads(ran.stdout) if ran.stdout.startswith("{") else {}
    if ran.returncode or "Dir" not in found:
        reason = found.get("Error") or ran.stderr.strip()[-500:]
        raise ClusterError(f"the Go module {path} could not be fetched: {reason}", "check the network and GOPROXY")
    return Path(found["Dir"])


def bootstrap_template() -> Path:
    """The template of Envoy's bootstrap that pilot-agent fills in."""
    return module_directory(ISTIO) / BOOTSTRAP


def gateway_api_crds() -> Path:
    """The directory with the CRDs of the Gateway API's standard channel."""
    return module_directory(GATEWAY_API) / STANDARD_CHANNEL
