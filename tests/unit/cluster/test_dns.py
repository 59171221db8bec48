"""Cluster DNS: what is deployed, and the resolver of the instances' network."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.cluster.dns import manifest, resolver_corefile
from tests.cluster.images.catalog import COREDNS
from tests.cluster.state import CLUSTER_DNS
from tests.cluster.targets import COREDNS_MODULE
from vk_provider.jsontypes import Json

REGISTRY = "192.0.2.1:5000"
NAMES_OF_PACKAGES = {"prometheus": "metrics"}
"""Directive -> package of CoreDNS, where they differ."""


def deployed() -> dict[str, Json]:
    return {item["kind"]: item for item in yaml.safe_load_all(manifest(REGISTRY))}


def directives(corefile: str) -> set[str]:
    """The plugins that a Corefile names."""
    return set(re.findall(r"^ {4}(\w+)", corefile, re.MULTILINE))


def test_coredns_is_deployed_at_the_cluster_dns_address_from_our_registry() -> None:
    objects = deployed()
    assert objects["Service"]["spec"]["clusterIP"] == CLUSTER_DNS
    spec = objects["Deployment"]["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (2, f"{REGISTRY}/{COREDNS}")
    labels = spec["template"]["metadata"]["labels"]
    assert labels == objects["Service"]["spec"]["selector"] == spec["selector"]["matchLabels"]
    assert labels == objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    assert not re.search(r"REGISTRY|IMAGE|CLUSTER_", str(objects))


def test_every_plugin_that_a_corefile_names_is_built_in(tmp_path: Path) -> None:
    known = tmp_path / "resolv.conf"
    known.write_text("nameserver 192.0.2.53\n")
    corefiles = [
        deployed()["ConfigMap"]["data"]["Corefile"],
        resolver_corefile("192.0.2.1", "demo", known),
        resolver_corefile("192.0.2.1", "demo", tmp_path / "none"),
    ]
    named = {NAMES_OF_PACKAGES.get(name, name) for corefile in corefiles for name in directives(corefile)}
    assert {"kubernetes", "forward", "hosts", "template", "metrics"} <= named
    built = re.findall(r"coredns/plugin/(\w+)", (COREDNS_MODULE / "main.go").read_text())
    assert named <= set(built)


def test_the_resolver_asks_the_machines_nameservers_and_knows_the_machine_itself(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.53\n")
    corefile = resolver_corefile("10.201.0.1", "demo", path)
    assert f"forward . {path} {{" in corefile
    assert "10.201.0.1 host.demo.internal" in corefile
    assert corefile.count("bind 10.201.0.1") == 2


def test_without_nameservers_on_the_machine_names_outside_do_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    for content in (None, "search example.com\n", "nameserver\n"):
        if content is not None:
            path.write_text(content)
        corefile = resolver_corefile("10.201.0.1", "demo", path)
        assert "forward" not in corefile
        assert "rcode NXDOMAIN" in corefile
