"""Builds the configured cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vk_provider.cloud.base import Cloud
from vk_provider.cloud.tags import MAX_VALUE, clean_tag
from vk_provider.errors import BadStartError

if TYPE_CHECKING:
    from vk_provider.settings import CloudSettings


def create_cloud(
    settings: CloudSettings, registries: Mapping[str, Mapping[str, Any]] | None = None, *, cache_dir: str = ""
) -> Cloud:
    """Return the backend, not yet started. Backends are imported only when they are used. `registries` as in
    wire.bootdata: for preloading images by reference. `cache_dir` "" = the user's cache. Raises BadStartError."""
    if not settings.owner or clean_tag(settings.owner, MAX_VALUE) != settings.owner:
        raise BadStartError(
            f"cloud.owner {settings.owner!r} is written into a tag of every instance: 1 to {MAX_VALUE} letters, "
            "digits, blanks and . : / = + - _ @"
        )
    if settings.backend == "simulated":
        from vk_provider.cloud.simulated.cloud import SimulatedCloud, SimulationConfig

        simulated = settings.simulated
        config = SimulationConfig(
            launch_latency_s=simulated.launch_latency_s,
            boot_latency_s=simulated.boot_latency_s,
            ipv6=simulated.ipv6,
        )
        return SimulatedCloud(config, settings.owner)
    from vk_provider.cloud.local.cloud import LocalCloud
    from vk_provider.cloud.local.config import LocalCloudConfig, default_cache_dir

    local = settings.local
    return LocalCloud(
        LocalCloudConfig(
            name=local.name,
            subnet=local.subnet,
            ipv6_subnet=local.ipv6_subnet,
            state_dir=local.state_dir,
            sandbox_image=local.sandbox_image,
            images=local.preload,
            registries=registries or {},
            cache_dir=cache_dir or default_cache_dir(),
            nameservers=local.nameservers,
            max_instances=local.max_instances,
            boot_credit_s=local.boot_credit_s,
            parallel_launches=local.launch_concurrency,
            shared_bytes=local.shared_bytes,
        ),
        settings.owner,
    )
