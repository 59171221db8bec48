"""The images by name: pure names and versions, no contents (those are in recipe).

Names and versions of the e2e images are those of test/utils/image/manifest.go in k8s.io/kubernetes v1.37.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.cluster.targets import coredns_version, istio_version

E2E = "e2e-test-images"
COREDNS = f"coredns/coredns:{coredns_version()}"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """An image to make: which recipe, and the references (repository:tag in the registry) it is pushed under."""

    recipe: str
    references: tuple[str, ...]
    sample: bool = False


CATALOG = (
    CatalogEntry("pause", ("pause:3.10.2",), sample=True),
    CatalogEntry("sample-busybox", ("busybox:latest", "busybox:1.35"), sample=True),
    CatalogEntry("coredns", (COREDNS,)),
    CatalogEntry("busybox", (f"{E2E}/busybox:1.37.0-2",)),
    CatalogEntry("agnhost", (f"{E2E}/agnhost:2.66.1", f"{E2E}/agnhost:2.55")),
    CatalogEntry("kitten", (f"{E2E}/kitten:1.8",)),
    CatalogEntry("nautilus", (f"{E2E}/nautilus:1.8",)),
    CatalogEntry("nginx", (f"{E2E}/nginx:1.27.0-2", f"{E2E}/nginx:1.28.0-2")),
    CatalogEntry("nonewprivs", (f"{E2E}/nonewprivs:1.4",)),
    CatalogEntry("nonroot", (f"{E2E}/nonroot:1.5",)),
    CatalogEntry("glibc-dns-testing", (f"{E2E}/glibc-dns-testing:2.1.1",)),
)

AGGREGATOR = (
    CatalogEntry("sample-apiserver", (f"{E2E}/sample-apiserver:1.29.2",)),
    CatalogEntry("etcd", ("etcd:3.7.0-0",)),
)
"""One spec's alone, and large: only for whoever runs all of them."""

ISTIO_HUB = "istio"
ISTIO = tuple(
    CatalogEntry(f"istio-{name}", (f"{ISTIO_HUB}/{name}:{istio_version()}",)) for name in ("pilot", "proxyv2")
)
"""Istio's own names for its images; their builds take minutes, so they are made only where they are asked for."""


def select_entries(only: str | None) -> tuple[CatalogEntry, ...]:
    """The entries of `sample` (what the demo needs), of `e2e` (what the conformance specs need), of `mesh` (what Istio
    and its demo need), of `aggregator`, of one recipe by its name, or all of them but those and Istio's.
    """
    if only == "aggregator":
        return AGGREGATOR
    if only == "mesh":
        return (*(entry for entry in CATALOG if entry.sample or entry.recipe == "agnhost"), *ISTIO)
    if only == "sample":
        return tuple(entry for entry in CATALOG if entry.sample)
    if only == "e2e":
        return tuple(entry for entry in CATALOG if entry.recipe not in ("sample-busybox", "coredns"))
    return tuple(entry for entry in (*CATALOG, *AGGREGATOR, *ISTIO) if entry.recipe == only) if only else CATALOG


def repository_list(registry: str) -> str:
    """The YAML of KUBE_TEST_REPO_LIST that points the e2e suite at `registry` (host:port).

    The invalid registry is a port nothing listens on; the private one is a name under which nothing is pushed,
    as no cloud's credential provider is at hand.
    """
    host = registry.rsplit(":", 1)[0]
    places = {
        "promoterE2eRegistry": f"{registry}/{E2E}",
        "buildImageRegistry": f"{registry}/build-image",
        "gcRegistry": registry,
        "gcEtcdRegistry": registry,
        "sigStorageRegistry": f"{registry}/sig-storage",
        "privateRegistry": f"{registry}/authenticated",
        "dockerLibraryRegistry": registry,
        "invalidRegistry": f"{host}:1/invalid",
        "cloudProviderGcpRegistry": f"{registry}/cloud-provider-gcp",
    }
    return "".join(f'{key}: "{place}"\n' for key, place in places.items())
