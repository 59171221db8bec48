"""What a provider that runs has in memory: nothing that it does not use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.cluster.controlplane import ControlPlane
from tests.integration.kube.test_phases import settings as settings  # a fixture
from vk_provider.settings import Settings

SCRIPT = """
import asyncio, gc, json, sys, types
from pathlib import Path

import uvloop
from vk_provider.app import Provider
from vk_provider.settings import load_settings


async def main():
    provider = Provider(load_settings(sys.argv[1], {}))
    try:
        await provider.start()
        modules = {each.__name__ for each in gc.get_objects() if isinstance(each, types.ModuleType)} | set(sys.modules)
        classes = {str(each.__module__) for each in gc.get_objects() if isinstance(each, type)}
        print(json.dumps(sorted(modules | classes)))
    finally:
        await provider.stop()


# What the start has made permanent is not among the objects of the collector otherwise.
gc.freeze = lambda: None
uvloop.run(main())
"""
UNUSED = (
    "kubernetes_asyncio.client.models",
    "kubernetes_asyncio.client.api",
    "kubernetes_asyncio.client.rest",
    "kubernetes_asyncio.dynamic",
    "kubernetes_asyncio.stream",
    "botocore",
    "aiobotocore",
    "vk_provider.agent",
    "vk_provider.cloud.aws",
    "vk_provider.cloud.local.cloud",
)


def test_neither_the_models_of_the_api_nor_another_cloud_is_imported(
    control_plane: ControlPlane, settings: Settings, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "config.toml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
    )
    control_plane.kubectl("delete", "node", settings.nodes[0].name, "--ignore-not-found")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "vk_provider.kube.client" in found and "kubernetes_asyncio.config.kube_config" in found
    assert [name for name in found if any(name == each or name.startswith(f"{each}.") for each in UNUSED)] == []
