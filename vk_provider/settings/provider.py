"""The whole file, and the tables of the provider itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from vk_provider.cloud.launchoptions import LaunchOption
from vk_provider.settings.budget import BudgetSettings, LedgerSettings
from vk_provider.settings.cloud import CloudSettings
from vk_provider.settings.cluster import ClusterSettings, RegistrySettings
from vk_provider.settings.kubelet import KubeletSettings
from vk_provider.settings.node import NodeSettings
from vk_provider.settings.pool import PoolSettings
from vk_provider.settingtypes import NonNegativeFloat, PositiveFloat, PositiveInt


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """The provider's CA and the secrets that its instances prove themselves with.

    directory:         where they are stored, if not in a Secret
    secret:            "namespace/name" of a Secret for them, for a provider that may move to another machine
    certificate_ttl_s: of the agents' certificates, which are renewed before
    boot_secret_ttl_s: of the secret from which those of new launches are derived
    """

    directory: str = "/var/lib/vk-provider/identity"
    secret: str = ""
    certificate_ttl_s: Annotated[int, Meta(ge=60)] = 86400
    boot_secret_ttl_s: PositiveInt = 86400


@dataclass(frozen=True, slots=True)
class PodSettings:
    """daemonsets: "refuse" leaves DaemonSet pods Pending with an event, "run" gives each its instance; else a label
                 selector as of `kubectl -l`: those that it selects run, the others are refused

    archive_dir:         logs of finished pods, kept until the pod object is gone
    archive_bytes:       of one container's log, the newest lines; as a kubelet's containerLogMaxSize
    archive_pod_bytes:   of all logs of one pod, so that a pod with many containers cannot fill the archive
    archive_total_bytes: of the whole directory: the pods archived first make room for newer ones. A pod's log is rarely
                         over 1 MiB, so this holds the last thousands of pods on an ordinary disk
    archive_timeout_s:   for one pod's logs, after which its instance is terminated without

    launch_options: which options of a launch the annotations of pods may set (`vk-provider/<option>`): subnet, image,
                    security-groups, instance-profile, root-volume-throughput, root-volume-iops, instance-store-policy.
                    Whoever may create a pod chooses with them the network, the machine image and the permissions of its
                    instance, so that none is allowed unless it is listed here. RuntimeClasses, which administrators
                    make, may have all
    capacity_types: of pods that do not ask for one themselves: on-demand, spot; with both the cheaper one
    default_cpu:    a quantity: for how much the instances of pods are sized that request no CPU
    default_memory: the same of memory
    max_root_disk:  a quantity: the largest root disk of a pod's instance, for the machine image, the pod's images and
                    its files together. No limit of the budget and no quota counts what a pod's limits, the sizes of its
                    emptyDir volumes or vk-provider/root-volume-size make it cost; "0" for any
    """

    daemonsets: str = "refuse"
    archive_dir: str = "/var/lib/vk-provider/logs"
    archive_bytes: PositiveInt = 10 * 2**20
    archive_pod_bytes: PositiveInt = 50 * 2**20
    archive_total_bytes: PositiveInt = 5 * 2**30
    archive_timeout_s: PositiveFloat = 30.0
    launch_options: tuple[LaunchOption, ...] = ()
    capacity_types: tuple[Literal["on-demand", "spot"], ...] = ("on-demand",)
    default_cpu: str = "1"
    default_memory: str = "256Mi"
    max_root_disk: str = "2Ti"


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """Images that pods have used are kept ready, so that the instances of later pods have them when they start; only on
    clouds that can do so, and only for pods that may pull them. What every instance has from the beginning is a setting
    of its cloud (cloud.local.preload).

    prepare:   false: every instance pulls its images itself; true is refused where the cloud cannot have images ready;
               without a value they are had ready where the cloud can
    named:     references of images that are prepared before a pod has used them, each for itself, for each architecture
               that the cloud offers and the image has, and again when what the name stands for has changed; of
               registries that give them to anybody; 100 at most. On `local` they are fetched by the provider's machine,
               on `aws` by an instance that is launched for that
    max_bytes: of all prepared stores together; the least recently used one is removed first
    max_age_s: that a store is kept after its last use; where images are not prepared any more, after it was made
    wait_s:    a pod whose images another pod is pulling for the first time waits for their store at most so long, where
               instances share one machine and that is sooner; 0: never
    peers:     instances fetch the images' layers from each other (TCP from instance to instance, to the agents' port),
               so that each leaves its registry once for each zone; false: each pod's from the registry
    peer_min_bytes: smaller layers are fetched from the registry by each instance
    peer_uploads: that one instance is asked for at once
    """

    prepare: bool | None = None
    named: tuple[str, ...] = ()
    max_bytes: PositiveInt = 20 * 2**30
    max_age_s: PositiveFloat = 7 * 86400.0
    wait_s: NonNegativeFloat = 60.0
    peers: bool = True
    peer_min_bytes: Annotated[int, Meta(ge=0)] = 0
    peer_uploads: Annotated[int, Meta(ge=1, le=16)] = 4


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The provider's own log, on standard error.

    format: lines for people, or one JSON object a line
    level:  the least that is written
    """

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Settings:
    nodes: tuple[NodeSettings, ...]
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    cloud: CloudSettings = field(default_factory=CloudSettings)
    kubelet: KubeletSettings = field(default_factory=KubeletSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    pods: PodSettings = field(default_factory=PodSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    logs: LogSettings = field(default_factory=LogSettings)
    registries: tuple[RegistrySettings, ...] = ()
    pools: tuple[PoolSettings, ...] = ()
