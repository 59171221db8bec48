"""Istio in the cluster is what its own charts make of it, but for three settings that stock Envoy needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.istio.installation import NAMESPACE
from tests.cluster.istio.module import module_directory
from tests.cluster.targets import ISTIO, ISTIO_RELEASE, istio_version
from tests.mesh.world import Mesh
from vk_provider.jsontypes import Json
from vk_provider.podmodel.quantity import parse_quantity

pytestmark = pytest.mark.real
KINDS = ("Deployment", "Service", "ConfigMap")
"""Not the webhook: istioctl itself puts that of the default revision in its place."""
RECORD = "values"
"""The ConfigMap where istioctl notes what it was given."""


@pytest.fixture(scope="module")
def stock(mesh: Mesh) -> list[Json]:
    """What istioctl makes of its charts when it is told nothing but where the images are."""
    settings = {"profile": "minimal", "hub": f"{mesh.istio.registry}/istio", "tag": istio_version()}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return [each for each in yaml.safe_load_all(mesh.istio.istioctl("manifest", "generate", *words).stdout) if each]


def differences(expected: Json, found: Json, whole: bool, path: str) -> Iterator[str]:
    """Paths with + (added), - (missing) or ~ (changed). whole: an object's further fields count, too; else they are the
    API server's defaults, which also leaves out what is empty. Lists of named things are compared by name."""
    if isinstance(expected, dict) and isinstance(found, dict):
        yield from (f"-{path}.{key}" for key in expected.keys() - found.keys() if whole or expected[key])
        if whole:
            yield from (f"+{path}.{key}" for key in found.keys() - expected.keys())
        for key in expected.keys() & found.keys():
            yield from differences(expected[key], found[key], whole, f"{path}.{key}")
    elif isinstance(expected, list) and isinstance(found, list) and all(is_named(item) for item in expected + found):
        ours, theirs = ({item["name"]: item for item in items} for items in (found, expected))
        yield from (f"-{path}.{name}" for name in theirs.keys() - ours.keys())
        yield from (f"+{path}.{name}" for name in ours.keys() - theirs.keys())
        for name in theirs.keys() & ours.keys():
            yield from differences(theirs[name], ours[name], whole, f"{path}.{name}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (theirs, ours) in enumerate(zip(expected, found, strict=True)):
            yield from differences(theirs, ours, whole, f"{path}.{index}")
    elif path.endswith((".requests.cpu", ".requests.memory")):
        if parse_quantity(expected) != parse_quantity(found):
            yield f"~{path}"
    elif expected != found:
        yield f"~{path}"


def is_named(item: Json) -> bool:
    return isinstance(item, dict) and "name" in item


def documents(config_map: Json) -> Json:
    """The data of a ConfigMap, each text as the YAML that it is."""
    return {name: yaml.safe_load(text) for name, text in config_map["data"].items()}


def test_all_that_differs_from_istios_own_charts_is_due_to_stock_envoy(mesh: Mesh, stock: list[Json]) -> None:
    found: set[str] = set()
    compared = set()
    for each in stock:
        kind, name = each["kind"], each["metadata"]["name"]
        if kind not in KINDS or (kind, name) == ("ConfigMap", RECORD):
            continue
        compared.add((kind, name))
        there = mesh.nodeless.get(kind, name, each["metadata"].get("namespace", ""))
        if kind == "ConfigMap":
            found.update(differences(documents(each), documents(there), True, f"{kind}.{name}"))
        else:
            found.update(differences(each["spec"], there["spec"], False, f"{kind}.{name}"))
    assert {("Deployment", "istiod"), ("ConfigMap", "istio-sidecar-injector"), ("ConfigMap", "istio")} <= compared
    switches = {"PILOT_ENABLE_METADATA_EXCHANGE", "PILOT_ENABLE_ALPN_FILTER"}
    assert found == {
        "-ConfigMap.istio.mesh.defaultProviders",
        *(f"+Deployment.istiod.template.spec.containers.discovery.env.{name}" for name in switches),
        *(f"+ConfigMap.istio-sidecar-injector.values.pilot.env.{name}" for name in switches),
    }


def test_istiod_runs_on_a_nodeless_instance_with_its_two_switches_off(mesh: Mesh) -> None:
    pods = mesh.nodeless.get("pods", namespace=NAMESPACE)["items"]
    (istiod,) = [pod for pod in pods if pod["metadata"]["labels"].get("app") == "istiod"]
    assert istiod["spec"]["nodeName"] in mesh.nodeless.nodes
    assert mesh.nodeless.instances.of_pod(istiod["metadata"]["uid"]).processes("pilot-discovery")
    environment = {item["name"]: item.get("value") for item in istiod["spec"]["containers"][0]["env"]}
    assert environment["PILOT_ENABLE_METADATA_EXCHANGE"] == environment["PILOT_ENABLE_ALPN_FILTER"] == "false"


def test_the_release_that_is_stamped_is_the_modules(mesh: Mesh) -> None:
    assert (module_directory(ISTIO) / "VERSION").read_text().strip() == ISTIO_RELEASE
    assert ISTIO_RELEASE in mesh.istio.istioctl("version", "--remote=false").stdout
