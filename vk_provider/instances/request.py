"""The frozen request of one launch call, and its client token.

The token is derived from the whole request, the pods it is for and the attempt: equal requests have the same token, any
difference (offerings, labels, generation of the boot secret, registries) makes another one. So a request that is
repeated after a crash, for the same pods, returns the instances of the first one, and a changed request is never
refused for a reused token. Only the prepared store is no part of it: which one fits changes with what others pull. One
boot secret is for all instances of a call: they are of one namespace and of equal pods. An instance of a pool,
which is of no namespace yet, has a call of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vk_provider.cloud.base import TAG_LAUNCH, LaunchRequest, Offering
from vk_provider.cloud.disks import write_disks
from vk_provider.cloud.parameters import digest_parameters
from vk_provider.cloud.tags import build_group_tags, build_pod_tags, build_pool_tags
from vk_provider.instances.budget import Reservation
from vk_provider.instances.demand import Demand, Group

BootData = Callable[[str], tuple[str, str]]
"""client token -> (launch ID for TAG_LAUNCH, user data with the boot secret of that launch)."""
_DIGEST_DIGITS = 40


@dataclass(frozen=True, slots=True)
class LaunchCall:
    """A request that is repeated unchanged until its outcome is known.

    demands: those that it was made for; who gets an instance is decided when it is there
    number:  see freeze_request
    reservation: of what it may cost
    """

    request: LaunchRequest
    group: Group
    demands: tuple[Demand, ...]
    number: int
    reservation: Reservation

    @property
    def is_inherited(self) -> bool:
        """Whether an earlier process may have made the same call, and used what it brought."""
        return any(demand.inherited for demand in self.demands)

    @property
    def launch_id(self) -> str:
        return self.request.tags[TAG_LAUNCH]


def freeze_request(
    group: Group,
    demands: Sequence[Demand],
    owner: str,
    boot_data: BootData,
    number: int = 0,
    offerings: tuple[Offering, ...] = (),
) -> LaunchRequest:
    """The request for one instance for each of `demands`, all of `group`. number: of the try, where the instances of an
    earlier one had ended before they were seen. offerings: those of the group's that may be asked for, () for all."""
    launch_id, user_data = boot_data("")  # part of the token's digest; the token itself is not known yet
    tags = build_group_tags(
        owner=owner,
        node=group.node,
        namespace=group.namespace,
        group=group.digest,
        launch=launch_id,
        labels=group.labels,
        disks=_disks_of(group),
        steady_cpu_milli=_steady_cpu_of(group),
    )
    if len(demands) == 1:
        (demand,) = demands
        tags |= build_pod_tags(
            pod_uid=demand.uid, pod_namespace=demand.namespace, pod_name=demand.name, attempt=demand.attempt
        )
    names = [f"{demand.uid}/{demand.attempt}" for demand in demands]
    return _freeze(group, tags, user_data, names, boot_data, number, offerings)


def freeze_pool_request(
    group: Group, pool: str, name: str, owner: str, boot_data: BootData, offerings: tuple[Offering, ...] = ()
) -> LaunchRequest:
    """The request for one instance of a pool. name: of this call; no other has the same. offerings: see
    freeze_request."""
    launch_id, user_data = boot_data("")
    tags = build_pool_tags(
        owner=owner,
        node=group.node,
        group=group.digest,
        launch=launch_id,
        pool=pool,
        disks=_disks_of(group),
        image_store=group.image_store,
    )
    return _freeze(group, tags, user_data, [name], boot_data, 0, offerings)


def _disks_of(group: Group) -> str:
    return write_disks(group.selection.disk_bytes, group.selection.local_store)


def _steady_cpu_of(group: Group) -> int:
    """What the price of an instance depends on, 0 where it does not."""
    selection = group.selection
    offerings = (selection.offering, *selection.alternatives)
    return selection.steady_cpu_milli if any(each.traits.burst_price_per_cpu for each in offerings) else 0


def _freeze(
    group: Group,
    tags: dict[str, str],
    user_data: str,
    names: Sequence[str],
    boot_data: BootData,
    number: int,
    offerings: tuple[Offering, ...],
) -> LaunchRequest:
    selection = group.selection
    draft = LaunchRequest(
        "",
        offerings or (selection.offering, *selection.alternatives),
        tags,
        user_data,
        len(names),
        selection.disk_bytes,
        group.shared_host_paths,
        group.image_store,
        selection.options,
        selection.local_store,
    )
    token = _token(draft, names, number)
    launch_id, user_data = boot_data(token)
    return replace(draft, client_token=token, tags={**tags, TAG_LAUNCH: launch_id}, user_data=user_data)


def _token(draft: LaunchRequest, names: Sequence[str], number: int) -> str:
    digest = hashlib.sha256(digest_parameters(draft).encode())
    for name in sorted(names):
        digest.update(name.encode())
    return f"{digest.hexdigest()[:_DIGEST_DIGITS]}-{number}"
