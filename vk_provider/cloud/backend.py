"""What a cloud registers itself with, under its name: see discovery."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vk_provider.cloud.base import Cloud
from vk_provider.cloud.credentials import CredentialSource
from vk_provider.cloud.imagestores import ImageStores
from vk_provider.cloud.podidentity import PodIdentitySource
from vk_provider.cloud.pricelist import PriceList
from vk_provider.cloud.spotprices import SpotPriceSource
from vk_provider.cloud.volumes import RootVolumes

if TYPE_CHECKING:
    from vk_provider.agentclient.base import AgentConnector

SettingsT = TypeVar("SettingsT")
CloudT = TypeVar("CloudT", bound=Cloud)


@dataclass(frozen=True, slots=True)
class CloudContext:
    """What a cloud is given beside its own settings.

    owner:      TAG_OWNER of its instances
    registries: as in wire.bootdata, for what the cloud itself pulls
    """

    owner: str
    registries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CloudAbility:
    """launch_options: names that LaunchRequest.options may have
    offerings_ttl_s: for how long an answer of Cloud.describe_offerings holds; infinite where it never changes
    gather_s: for how long demands are gathered at most while launch calls follow each other; 0.0 where calls are cheap
    stops: whether instances can be stopped and started again, with their disks and addresses
    least_run_s: seconds that are paid for of each run of an instance, from its launch, or from its start after a stop
    boots_soon: whether a new instance that has a pod's images is ready before one that runs would have pulled them
    """

    launch_options: frozenset[str] = frozenset()
    offerings_ttl_s: float = math.inf
    gather_s: float = 0.0
    stops: bool = False
    least_run_s: float = 0.0
    boots_soon: bool = False


@dataclass(frozen=True, slots=True)
class CloudBackend(Generic[SettingsT, CloudT]):
    """One kind of cloud. Its module is imported to read the settings, so it imports the cloud itself in `create`.

    name:     cloud.backend in the settings, and the name of the entry point
    settings: a frozen dataclass, the table [cloud.<name>]: every field is a key, its annotation the type and the limits
              (vk_provider.settingtypes, msgspec.Meta). What fields without a default need must be in the file
    create:   the cloud, not started. Raises BadStartError
    check:    what types and limits cannot say, before anything is created: "" or one line that begins with the key
    connect:  how the agents of its instances are reached; None: by HTTPS at Instance.primary_ip, with the certificates
              that the provider gives them
    has_machines: false for a cloud whose instances no packet reaches: no Services are translated on the provider's
              machine for it unless a Node says so (services_here)
    gateway_name: where the provider's machine is the way out of the instances, so that it sees the replies to what it
              translates: the name of their network, which the tables there are named after. "" where it is not
    image_stores: the cloud's ability to have images ready, once it was started; None: instances pull all of theirs
    keeps_images: whether its settings let it do so
    credentials: the cloud's ability to log in to registries, once it was started; None: pods bring all secrets
    pod_identity: the cloud's ability to give roles to pods, once it was started; None: pods have none
    spot_prices: the cloud's ability to tell how prices change while instances run, once it was started; None: an
              instance has one price for all of its life
    root_volumes: what it allows of root disks; None: it does not say
    ability: what else it can
    price_list: what it offers and at what price, without asking anybody; None: it cannot tell
    """

    name: str
    settings: Callable[[], SettingsT]
    create: Callable[[SettingsT, CloudContext], CloudT]
    check: Callable[[SettingsT], str] = lambda settings: ""
    connect: Callable[[CloudT], AgentConnector] | None = None
    has_machines: bool = True
    gateway_name: Callable[[SettingsT], str] = lambda settings: ""
    image_stores: Callable[[CloudT], ImageStores] | None = None
    keeps_images: Callable[[SettingsT], bool] = lambda settings: True
    credentials: Callable[[CloudT], CredentialSource | None] = lambda cloud: None
    pod_identity: Callable[[CloudT], PodIdentitySource | None] = lambda cloud: None
    spot_prices: Callable[[CloudT], SpotPriceSource | None] = lambda cloud: None
    root_volumes: Callable[[SettingsT], RootVolumes | None] = lambda settings: None
    ability: CloudAbility = CloudAbility()
    price_list: Callable[[SettingsT], PriceList] | None = None
