"""IPv6 addresses of EC2's instances: two each, the instance's own and its pod's. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from vk_provider.cloud.aws.answers import DescribedInstance, Subnet
from vk_provider.cloud.base import TAG_FAMILIES
from vk_provider.errors import CloudRequestError
from vk_provider.wire.bootdata import AWAIT_IPV6, BootData

ADDRESSES: Final = 2
IN_CALL: Final[dict[str, Any]] = {"Ipv6AddressCount": ADDRESSES, "PrimaryIpv6": True}
"""Of a network interface in a launch call, also in one for several instances, as is documented. The first address is
made the primary one, so that nobody has to guess which one the instance's is. A prefix (/80) would save nothing: a
subnet has 2^64 addresses."""

DUAL_STACK: Final = "ipv4+ipv6"
"""TAG_FAMILIES of an instance that has them, or is to have them: its agent waits for both."""


def is_dual_stack(raw: DescribedInstance) -> bool:
    """Whether it was launched to have IPv6 addresses. One that was launched without them is not given any later: it
    has begun as it is."""
    return any(tag.key == TAG_FAMILIES and tag.value == DUAL_STACK for tag in raw.tags)


def await_ipv6(user_data: str) -> str:
    """Boot data by which an agent waits until the instance has both. Raises CloudRequestError for user data that are no
    boot data."""
    try:
        boot_data = BootData.from_user_data(user_data)
    except ValueError as error:
        raise CloudRequestError(f"InvalidParameterValue: instances with IPv6 need boot data: {error}") from None
    return replace(boot_data, extra={**boot_data.extra, AWAIT_IPV6: True}).to_user_data()


def find_ipv6(raw: DescribedInstance, more: Sequence[str] = ()) -> tuple[str, str]:
    """(the instance's address, its pod's), both "" where the pod has none. As in the metadata, the instance's is the
    primary one, or the first. more: that were assigned since the description."""
    interface = raw.primary_interface
    found = interface.ipv6_addresses if interface is not None else []
    addresses = list(dict.fromkeys([*(each.ipv6_address for each in found), *more]))
    marked = next((each.ipv6_address for each in found if each.is_primary_ipv6), raw.ipv6_address)
    own = marked or "".join(addresses[:1])
    pod = next((address for address in addresses if address != own), "")
    return (own, pod) if pod else ("", "")


def check_subnet(subnet: Subnet, *, ipv6: bool) -> None:
    """ipv6: whether instances are to have IPv6 addresses. Raises CloudRequestError."""
    name = subnet.subnet_id
    if subnet.ipv6_native:
        raise CloudRequestError(
            f"InvalidParameterValue: subnet {name} has IPv6 addresses alone, and instances need IPv4 ones, too"
        )
    if ipv6 and not subnet.has_ipv6:
        raise CloudRequestError(
            f"InvalidParameterValue: subnet {name} has no IPv6 block, which ipv6 = true asks for: associate "
            "one (aws ec2 associate-subnet-cidr-block), or set ipv6 = false"
        )
