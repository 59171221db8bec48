"""What can be built from Go modules, with versions, flags and the cache key of each."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

ROOM = Path(__file__).parent
KUBERNETES_MODULE = ROOM / "src"
METRICS_SERVER_MODULE = ROOM / "metrics-server"
METRICS_SERVER = "sigs.k8s.io/metrics-server"
KWOK_MODULE = ROOM / "kwok"
KWOK = "sigs.k8s.io/kwok"
COREDNS_MODULE = ROOM / "coredns"
COREDNS = "github.com/coredns/coredns"
CONTAINERD_MODULE = ROOM / "containerd"
CONTAINERD = "github.com/containerd/containerd/v2"
CONTAINERD_TAGS = ("no_btrfs", "no_devmapper", "no_zfs", "no_aufs")
"""Snapshotters that nobody here uses; two of them would need cgo."""
ISTIO_MODULE = ROOM / "istio"
ISTIO = "istio.io/istio"
ISTIO_RELEASE = "1.31"
"""What the file VERSION of that module says."""
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl")


@dataclass(frozen=True, slots=True)
class Target:
    """One binary.

    `package` is what is built in the module at `module`; `links` are further names of the file (multi-call programs);
    `stamps` are `-X` values of the linker; `tags` are build tags; `test_binary` compiles a package's tests; `takes`
    says how long it takes.
    """

    name: str
    file: str
    module: Path
    package: str
    links: tuple[str, ...] = ()
    stamps: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    test_binary: bool = False
    takes: str = "seconds"

    def command(self, output: Path) -> list[str]:
        """The go command that writes the binary to `output`; `-v` names each package as it is compiled."""
        verb = ["go", "test", "-c"] if self.test_binary else ["go", "build"]
        linker = " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in self.stamps)])
        tags = ["-tags", ",".join(self.tags)] if self.tags else []
        return [*verb, "-v", "-trimpath", *tags, "-ldflags", linker, "-o", str(output), self.package]

    def key(self) -> str:
        """Changes when the sources, the module versions or the flags change: 16 hex digits."""
        digest = hashlib.sha256(repr((self.file, self.package, self.links, self.command(Path("out")))).encode())
        for source in self._sources():
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
        return digest.hexdigest()[:16]

    def _sources(self) -> list[Path]:
        sources = [self.module / "go.mod", self.module / "go.sum"]
        if self.package.startswith("./"):
            sources += sorted((self.module / self.package).glob("*.go"))
        return sources


def required_version(module: Path, path: str) -> str:
    """The version of the module `path` that the go.mod in `module` asks for, such as v1.37.2."""
    text = (module / "go.mod").read_text()
    found = re.search(rf"^(?:require)?\s+{re.escape(path)} (v\S+)", text, re.MULTILINE)
    if not found:
        raise ValueError(f"{module}/go.mod does not require {path}")
    return found[1]


def kubernetes_version() -> str:
    """The version of Kubernetes everything here is built from, such as v1.37.2."""
    return required_version(KUBERNETES_MODULE, "k8s.io/kubernetes")


def coredns_version() -> str:
    """The version of CoreDNS, such as v1.14.6."""
    return required_version(COREDNS_MODULE, COREDNS)


def istio_version() -> str:
    """The version of Istio that is built, in the form of upstream's builds between releases: 1.31-alpha.COMMIT."""
    return f"{ISTIO_RELEASE}-alpha.{required_version(ISTIO_MODULE, ISTIO).rsplit('-', 1)[1]}"


def _version_stamps() -> tuple[str, ...]:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    base = "k8s.io/component-base/version."
    return (
        f"{base}gitVersion={version}",
        f"{base}gitMajor={major}",
        f"{base}gitMinor={minor}",
        f"{base}gitTreeState=clean",
        f"k8s.io/client-go/pkg/version.gitVersion={version}",
    )


def targets() -> dict[str, Target]:
    """Every target by name."""
    stamps = _version_stamps()
    kubernetes = KUBERNETES_MODULE
    containerd_stamps = (f"{CONTAINERD}/version.Version={required_version(CONTAINERD_MODULE, CONTAINERD)}",)
    metrics_version = required_version(METRICS_SERVER_MODULE, METRICS_SERVER)
    known = (
        Target(
            "controlplane",
            "controlplane",
            kubernetes,
            "./controlplane",
            COMPONENTS,
            stamps,
            takes="about 7 minutes on 2 cores the first time",
        ),
        Target(
            "e2e",
            "e2e.test",
            kubernetes,
            "./e2e",
            stamps=stamps,
            test_binary=True,
            takes="about 6 minutes on 2 cores the first time",
        ),
        Target(
            "agnhost",
            "agnhost",
            kubernetes,
            "k8s.io/kubernetes/test/images/agnhost",
            stamps=("main.Version=2.66.1",),
            takes="seconds after controlplane or e2e, minutes before",
        ),
        Target(
            "kubelet",
            "kubelet",
            kubernetes,
            "k8s.io/kubernetes/cmd/kubelet",
            stamps=stamps,
            takes="about 2 minutes after controlplane, longer before",
        ),
        Target(
            "sample-apiserver",
            "sample-apiserver",
            kubernetes,
            "k8s.io/sample-apiserver",
            takes="half a minute after controlplane, longer before",
        ),
        Target("ginkgo", "ginkgo", kubernetes, "github.com/onsi/ginkgo/v2/ginkgo"),
        Target(
            "metrics-server",
            "metrics-server",
            METRICS_SERVER_MODULE,
            f"{METRICS_SERVER}/cmd/metrics-server",
            stamps=(f"{METRICS_SERVER}/pkg/version.gitVersion={metrics_version}",),
            takes="about 2.5 minutes on 2 cores the first time",
        ),
        Target("coredns", "coredns", COREDNS_MODULE, "./", takes="half a minute after controlplane, longer before"),
        Target("kwok", "kwok", KWOK_MODULE, f"{KWOK}/cmd/kwok", takes="about a minute on 2 cores the first time"),
        Target(
            "containerd",
            "containerd",
            CONTAINERD_MODULE,
            f"{CONTAINERD}/cmd/containerd",
            stamps=containerd_stamps,
            tags=CONTAINERD_TAGS,
            takes="about 1.5 minutes on 2 cores the first time",
        ),
        Target(
            "shim-runc-v2",
            "containerd-shim-runc-v2",
            CONTAINERD_MODULE,
            f"{CONTAINERD}/cmd/containerd-shim-runc-v2",
            stamps=containerd_stamps,
            tags=CONTAINERD_TAGS,
            takes="seconds after containerd",
        ),
        Target(
            "ctr",
            "ctr",
            CONTAINERD_MODULE,
            f"{CONTAINERD}/cmd/ctr",
            stamps=containerd_stamps,
            tags=CONTAINERD_TAGS,
            takes="seconds after containerd",
        ),
    )
    return {target.name: target for target in (*known, *_istio_targets())}


def _istio_targets() -> tuple[Target, ...]:
    """Only for the mesh (`make demo-istio`, `make test-istio`)."""
    stamps = (f"{ISTIO}/pkg/version.buildVersion={istio_version()}",)

    def target(name: str, package: str, takes: str) -> Target:
        return Target(name, name, ISTIO_MODULE, f"{ISTIO}/{package}", stamps=stamps, takes=takes)

    return (
        target("pilot-discovery", "pilot/cmd/pilot-discovery", "about 4 minutes on 2 cores the first time"),
        target("pilot-agent", "pilot/cmd/pilot-agent", "less than a minute after pilot-discovery"),
        target("istioctl", "istioctl/cmd/istioctl", "about a minute after pilot-discovery"),
    )
