"""The cluster that the specs run on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conformance.own_cluster import CONFORMANCE, SMOKE
from tests.demo.environment import Environment
from vk_provider.cloud.local.catalog import build_offerings, machine_architecture
from vk_provider.podmodel.quantity import milli
from vk_provider.settings import Settings, load_settings
from vk_provider.sizing.selection import Selection, select_offering


def configured(environment: Environment, directory: Path) -> Settings:
    path = directory / "provider.toml"
    path.write_text(environment.provider_config(Path("/kubeconfig"), Path("/ca")))
    return load_settings(path, {})


def test_an_instance_holds_the_pod_that_asks_for_seven_tenths_of_a_node(tmp_path: Path) -> None:
    memory = 64 * 2**30
    for node in configured(CONFORMANCE, tmp_path).nodes:
        cpu = f"{math.floor(milli(node.capacity['cpu']) * 0.7)}m"
        resources = {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}
        pod = {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": resources}]}}
        assert isinstance(select_offering(pod, build_offerings(machine_architecture(), memory)), Selection)


@pytest.mark.parametrize("environment", [CONFORMANCE, SMOKE])
def test_how_a_cluster_was_brought_up_is_remembered_and_its_configuration_is_good(
    environment: Environment, tmp_path: Path
) -> None:
    configured(environment, tmp_path)
    moved = replace(environment, root=tmp_path)
    moved.save()
    assert Environment.load(tmp_path) == moved
