"""The subnets of the settings, by zone."""

from __future__ import annotations

from collections.abc import Sequence

from vk_provider.cloud.aws.ipv6 import check_subnet
from vk_provider.cloud.aws.operations import DESCRIBE_SUBNETS, AwsApi
from vk_provider.errors import CloudRequestError


class Subnets:
    """All subnets of a zone are named in a call, also one that was full a moment ago: a call that is repeated must be
    the same call, and EC2 passes over those without addresses."""

    def __init__(self, api: AwsApi, subnet_ids: Sequence[str], *, ipv6: bool = False) -> None:
        """ipv6: each must have an IPv6 block."""
        self._api = api
        self._ipv6 = ipv6
        self._ids = tuple(dict.fromkeys(subnet_ids))
        self._zones: dict[str, str] = {}

    async def start(self) -> None:
        """Look the zones up. Raises CloudRequestError when one is not there, cannot be used, or they are of several
        VPCs."""
        found = (await self._api.call(DESCRIBE_SUBNETS, {"SubnetIds": list(self._ids)})).subnets
        zones = {subnet.subnet_id: subnet.availability_zone for subnet in found}
        if missing := [subnet_id for subnet_id in self._ids if not zones.get(subnet_id)]:
            raise CloudRequestError(f"InvalidSubnetID.NotFound: there is no subnet {missing[0]}")
        if len(networks := {subnet.vpc_id for subnet in found}) > 1:
            raise CloudRequestError(f"InvalidParameterCombination: the subnets are of {len(networks)} VPCs, not of one")
        for subnet in found:
            check_subnet(subnet, ipv6=self._ipv6)
        self._zones = {subnet_id: zones[subnet_id] for subnet_id in self._ids}

    @property
    def zones(self) -> frozenset[str]:
        return frozenset(self._zones.values())

    @property
    def by_zone(self) -> dict[str, list[str]]:
        return {zone: self.of_zone(zone) for zone in sorted(self.zones)}

    def zone_of(self, subnet_id: str) -> str:
        """ "" for a subnet that is none of the settings'."""
        return self._zones.get(subnet_id, "")

    async def find_zone(self, subnet_id: str) -> str:
        """The zone of any subnet; one that is none of the settings' is looked up. Raises CloudRequestError."""
        if zone := self.zone_of(subnet_id):
            return zone
        for subnet in (await self._api.call(DESCRIBE_SUBNETS, {"SubnetIds": [subnet_id]})).subnets:
            if subnet.subnet_id == subnet_id:
                check_subnet(subnet, ipv6=self._ipv6)
                return subnet.availability_zone
        raise CloudRequestError(f"InvalidSubnetID.NotFound: there is no subnet {subnet_id}")

    def of_zone(self, zone: str) -> list[str]:
        return [subnet_id for subnet_id, of in self._zones.items() if of == zone]
