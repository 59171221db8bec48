"""A local cloud that has only its directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from vk_provider.cloud.local.config import LocalCloudConfig
from vk_provider.cloud.local.store import InstanceStore


@pytest.fixture
def config(tmp_path: Path) -> LocalCloudConfig:
    return LocalCloudConfig(name="u", subnet="10.9.0.0/26", state_dir=str(tmp_path))


@pytest.fixture
def store(config: LocalCloudConfig) -> InstanceStore:
    found = InstanceStore(config)
    found.prepare()
    return found
