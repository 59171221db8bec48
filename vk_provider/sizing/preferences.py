"""The operator's settings for sizing: restrictions of the choice and reserves of every instance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vk_provider.cloud.base import Offering
from vk_provider.cloud.volumes import RootVolumes
from vk_provider.sizing.requirement import ZONE

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Preferences:
    """Defaults of one Node.

    architectures, zones, instance_types: allowed values, empty = all; types with * and ? for any characters
    default_architecture:    of pods that name none and whose images do not tell; "" = any
    capacity_types:          used when a pod does not ask for another (karpenter.sh/capacity-type)
    default_cpu_milli, default_memory_bytes: for pods that request none of it. A whole CPU, because probes, exec and
                             start of most programs are slow on less; memory is enough for common servers
    reserved_cpu_milli, reserved_memory_bytes: for agent, containerd and kernel. No CPU: they idle while the pod works
    size_to_limits:          an instance that holds the pod's limits; by its requests only when none is that large
    base_disk_bytes:         root disk before the pod's ephemeral-storage request
    max_disk_bytes:          the largest root disk, 0 for any
    node_labels:             labels of requirement.LABELS whose value is the Node's own and names no offering: a pod's
                             requirements on them are about the Node, and the scheduler has checked them
    launch_options, pod_options: those of cloud.launchoptions.OPTIONS that the cloud knows, and those that pods may set
    root_volumes:            what the cloud allows of root disks; None: it does not say
    """

    architectures: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    default_architecture: str = ""
    capacity_types: tuple[str, ...] = ("on-demand",)
    default_cpu_milli: int = 1000
    default_memory_bytes: int = 256 * MIB
    reserved_cpu_milli: int = 0
    reserved_memory_bytes: int = 160 * MIB
    size_to_limits: bool = True
    base_disk_bytes: int = 20 * 2**30
    max_disk_bytes: int = 0
    node_labels: tuple[str, ...] = ()
    launch_options: frozenset[str] = frozenset()
    pod_options: frozenset[str] = frozenset()
    root_volumes: RootVolumes | None = None


NO_PREFERENCES = Preferences()


def build_preferences(zone: str, architecture: str, offerings: Iterable[Offering]) -> Preferences:
    """Preferences of a Node in `zone` ("" = none): its pods run in the zone, and on the architecture of its labels
    unless they ask for another. A zone that the cloud does not have is a label for the scheduler only."""
    zones = {offering.zone for offering in offerings}
    known = zone in zones
    return Preferences(
        default_architecture=architecture,
        zones=(zone,) if known else (),
        node_labels=() if known or not zone else (ZONE,),
    )
