"""An instance as EC2's API describes it, in the words that a hypervisor needs. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ALIVE = frozenset({"pending", "running"})
ENDED = frozenset({"shutting-down", "terminated"})


@dataclass(frozen=True, slots=True)
class Interface:
    """The primary network interface. addresses: IPv4, the primary one first; prefixes: /28 blocks; cidrs with mask."""

    interface_id: str
    subnet_id: str
    vpc_id: str
    addresses: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    owner_id: str = ""
    group_ids: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    subnet_cidr: str = ""
    vpc_cidr: str = ""


@dataclass(frozen=True, slots=True)
class MetadataOptions:
    """How an instance may reach its metadata, as RunInstances and ModifyInstanceMetadataOptions set it."""

    endpoint_enabled: bool = True
    tokens_required: bool = True
    hop_limit: int = 1
    tags_enabled: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """One instance. launched: Unix seconds."""

    instance_id: str
    state: str
    instance_type: str
    architecture: str
    image_id: str
    zone: str
    launched: float
    interface: Interface
    spot: bool = False
    account: str = ""
    metadata: MetadataOptions = MetadataOptions()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def primary_ip(self) -> str:
        return self.interface.addresses[0] if self.interface.addresses else ""

    @property
    def pod_ip(self) -> str:
        """The first address that is not the instance's own, "" while it has none."""
        return next(iter(secondary_addresses(self.interface)), "")

    @property
    def region(self) -> str:
        return self.zone.rstrip("abcdefghijklmnopqrstuvwxyz")


def secondary_addresses(interface: Interface) -> Iterator[str]:
    """All that the interface may send from beside its primary address."""
    yield from interface.addresses[1:]
    for prefix in interface.prefixes:
        yield from map(str, ipaddress.IPv4Network(prefix))


def parse_reservations(pages: Sequence[Mapping[str, Any]], cidrs: Mapping[str, str]) -> list[Machine]:
    """The answers of DescribeInstances. cidrs: of subnets and VPCs, by their ID."""
    return [
        _parse(instance, str(reservation.get("OwnerId", "")), cidrs)
        for page in pages
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]


def _parse(instance: Mapping[str, Any], account: str, cidrs: Mapping[str, str]) -> Machine:
    options = instance.get("MetadataOptions") or {}
    return Machine(
        instance_id=instance["InstanceId"],
        state=instance["State"]["Name"],
        instance_type=instance["InstanceType"],
        architecture=instance.get("Architecture") or "x86_64",
        image_id=instance.get("ImageId") or "",
        zone=(instance.get("Placement") or {}).get("AvailabilityZone") or "",
        launched=instance["LaunchTime"].timestamp(),
        interface=_parse_interface(instance, cidrs),
        spot=instance.get("InstanceLifecycle") == "spot",
        account=account,
        metadata=MetadataOptions(
            endpoint_enabled=options.get("HttpEndpoint", "enabled") == "enabled",
            tokens_required=options.get("HttpTokens", "required") == "required",
            hop_limit=int(options.get("HttpPutResponseHopLimit", 1)),
            tags_enabled=options.get("InstanceMetadataTags", "disabled") == "enabled",
        ),
        tags={tag["Key"]: tag["Value"] for tag in instance.get("Tags") or []},
    )


def _parse_interface(instance: Mapping[str, Any], cidrs: Mapping[str, str]) -> Interface:
    found = instance.get("NetworkInterfaces") or [{}]
    first = min(found, key=lambda each: (each.get("Attachment") or {}).get("DeviceIndex", 0))
    primary = instance.get("PrivateIpAddress") or first.get("PrivateIpAddress") or ""
    listed = [each["PrivateIpAddress"] for each in first.get("PrivateIpAddresses") or []]
    addresses = dict.fromkeys([address for address in (primary, *listed) if address])
    subnet_id, vpc_id = instance.get("SubnetId") or "", instance.get("VpcId") or ""
    groups = first.get("Groups") or instance.get("SecurityGroups") or []
    return Interface(
        interface_id=first.get("NetworkInterfaceId") or "",
        subnet_id=subnet_id,
        vpc_id=vpc_id,
        addresses=tuple(addresses),
        prefixes=tuple(each["Ipv4Prefix"] for each in first.get("Ipv4Prefixes") or []),
        owner_id=first.get("OwnerId") or "",
        group_ids=tuple(each["GroupId"] for each in groups),
        group_names=tuple(each.get("GroupName", "") for each in groups),
        subnet_cidr=cidrs.get(subnet_id, ""),
        vpc_cidr=cidrs.get(vpc_id, ""),
    )
