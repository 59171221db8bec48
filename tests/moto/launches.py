"""RunInstances and CreateFleet as EC2 documents them, on moto's instances."""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES
from moto.ec2.models.instances import Instance, Reservation
from moto.ec2.utils import convert_tag_spec, filter_iam_instance_profiles, parse_user_data, random_fleet_id

from tests.moto.faults import Faults
from tests.moto.states import LIVE, States

Json = dict[str, Any]
PREFIX = 16


def refuse(code: str, message: str) -> EC2ClientError:
    return EC2ClientError(code, message)


@dataclass(slots=True)
class Pool:
    """What one override, or RunInstances, asks for. kind: as in Plan.in_call. data: as of a launch template."""

    data: Json
    instance_type: str
    subnet_id: str
    lifecycle: str
    kind: str
    token: str
    extra_tags: dict[str, str] = field(default_factory=dict)


class Launches:
    """Tokens are kept for ever: EC2 keeps those of live instances."""

    def __init__(self, faults: Faults, states: States) -> None:
        self._faults, self._states = faults, states
        self._tokens: dict[tuple[str, str], tuple[Json, Any]] = {}

    def reset(self) -> None:
        self._tokens.clear()

    # --- RunInstances --------------------------------------------------------------------------------------------

    def run_instances(self, response: Any) -> ActionResult:
        get = response._get_param
        token = get("ClientToken", "")
        known = self._known("RunInstances", token, response)
        if known is not None:
            return ActionResult(known)
        low, high = int(get("MinCount", 1)), int(get("MaxCount", 1))
        if not 1 <= low <= high:
            raise refuse("InvalidParameterValue", f"MinCount {low} and MaxCount {high} are no range")
        names = ("ImageId", "NetworkInterfaces", "MetadataOptions", "TagSpecifications", "SecurityGroupIds")
        names += ("CreditSpecification",)
        data = {name: value for name in names if (value := get(name))}
        data["TagSpecifications"] = get("TagSpecifications") or get("TagSpecification") or []
        data["UserData"] = parse_user_data(get("UserData"))
        data["BlockDeviceMappings"] = response._parse_block_device_mapping()
        data["InstanceInitiatedShutdownBehavior"] = get("InstanceInitiatedShutdownBehavior")
        for key in ("Name", "Arn"):
            if value := get(f"IamInstanceProfile.{key}"):
                data["IamInstanceProfile"] = {key: value}
        nics = data.get("NetworkInterfaces") or [{}]
        subnet_id = get("SubnetId") or nics[0].get("SubnetId") or ""
        lifecycle = "spot" if get("InstanceMarketOptions.MarketType") == "spot" else "on-demand"
        kind = "one" if high == 1 else "many"
        pool = Pool(data, get("InstanceType", "m1.small"), subnet_id, lifecycle, kind, token)
        self._faults_take("RunInstances", high)
        made, error = self.launch(response, pool, high)
        if len(made) < low:
            raise error or refuse("InsufficientInstanceCapacity", "nothing was launched")
        reservation = made[0].vk_reservation
        self._keep("RunInstances", token, response, reservation)
        return ActionResult(reservation)

    # --- CreateFleet ---------------------------------------------------------------------------------------------

    def create_fleet(self, response: Any) -> ActionResult:
        """Type instant. The overrides are tried in their order: there are no prices here."""
        get = response._get_param
        token = get("ClientToken", "")
        known = self._known("CreateFleet", token, response)
        if known is not None:
            return ActionResult(known)
        if get("Type") != "instant":
            raise refuse("InvalidParameterValue", "these tests have fleets of type instant alone")
        target = get("TargetCapacitySpecification", {})
        count, lifecycle = int(target["TotalTargetCapacity"]), target.get("DefaultTargetCapacityType", "on-demand")
        self._faults_take("RunInstances", count)
        fleet_id = random_fleet_id()
        instances: list[Json] = []
        errors: list[Json] = []
        for config in get("LaunchTemplateConfigs", []):
            template = self._template(response, config["LaunchTemplateSpecification"])
            for override in config.get("Overrides") or [{}]:
                missing = count - sum(len(each["InstanceIds"]) for each in instances)
                if missing <= 0:
                    break
                pool = Pool(
                    {**template.data, **_find_mappings(override)},
                    override.get("InstanceType") or template.data.get("InstanceType", ""),
                    override.get("SubnetId", ""),
                    lifecycle,
                    "fleet",
                    "",
                    {
                        "aws:ec2:fleet-id": fleet_id,
                        "aws:ec2launchtemplate:id": template.template.id,
                        "aws:ec2launchtemplate:version": str(template.number),
                    },
                )
                try:
                    made, error = self.launch(response, pool, missing)
                except EC2ClientError as raised:
                    made, error = [], raised
                where = {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": template.template.id, "Version": "1"},
                    "Overrides": {name: override[name] for name in ("InstanceType", "SubnetId") if name in override},
                }
                if made:
                    instances.append(
                        {
                            "LaunchTemplateAndOverrides": where,
                            "Lifecycle": lifecycle,
                            "InstanceIds": [each.id for each in made],
                            "InstanceType": pool.instance_type,
                        }
                    )
                if error is not None:
                    errors.append(
                        {
                            "LaunchTemplateAndOverrides": where,
                            "Lifecycle": lifecycle,
                            "ErrorCode": error.code,
                            "ErrorMessage": error.message,
                        }
                    )
        result = {"FleetId": fleet_id, "Instances": instances, "Errors": errors}
        self._keep("CreateFleet", token, response, result)
        return ActionResult(result)

    def _template(self, response: Any, named: Json) -> Any:
        backend = response.ec2_backend
        for template in backend.launch_templates.values():
            if named.get("LaunchTemplateName") == template.name or named.get("LaunchTemplateId") == template.id:
                return template.get_version(named.get("Version", "$Default"))
        raise refuse(
            "InvalidLaunchTemplateName.NotFoundException",
            "At least one of the launch templates specified in the request does not exist.",
        )

    # --- tokens --------------------------------------------------------------------------------------------------

    def _known(self, api: str, token: str, response: Any) -> Any:
        known = self._tokens.get((api, token)) if token else None
        if known is None:
            return None
        if known[0] != _parameters(response):
            raise refuse(
                "IdempotentParameterMismatch",
                f"The request uses the same client token as a previous, but non-identical request: {token}",
            )
        return known[1]

    def _keep(self, api: str, token: str, response: Any, result: Any) -> None:
        if token:
            self._tokens[(api, token)] = _parameters(response), result

    def _faults_take(self, api: str, count: int) -> None:
        from tests.moto.faults import Refusal

        try:
            self._faults.take_resources(api, count)
        except Refusal as refusal:
            raise refuse(refusal.code, refusal.message) from refusal

    # --- instances -----------------------------------------------------------------------------------------------

    def launch(self, response: Any, pool: Pool, wanted: int) -> tuple[list[Instance], EC2ClientError | None]:
        """As many as can be had, and what prevents more. Raises what makes the pool impossible."""
        backend = response.ec2_backend
        self._check(response, pool)
        subnet = backend.get_subnet(pool.subnet_id)
        count, error = self._limit(backend, pool, subnet, wanted)
        self._check_volumes(backend, pool)
        if count <= 0:
            return [], error
        tags = convert_tag_spec(pool.data.get("TagSpecifications") or [])
        nic = {**(pool.data.get("NetworkInterfaces") or [{"DeviceIndex": 0}])[0], "SubnetId": pool.subnet_id}
        reservation: Reservation = backend.run_instances(
            pool.data["ImageId"],
            count,
            pool.data.get("UserData"),
            [],
            instance_type=pool.instance_type,
            is_instance_type_default=False,
            region_name=response.region,
            nics=[nic],
            tags={**tags, "instance": {**tags.get("instance", {}), **pool.extra_tags}},
            instance_market_options="spot" if pool.lifecycle == "spot" else "",
            instance_initiated_shutdown_behavior=pool.data.get("InstanceInitiatedShutdownBehavior"),
            metadata_options=pool.data.get("MetadataOptions") or {},
            block_device_mappings=pool.data.get("BlockDeviceMappings") or [],
            client_token=pool.token,
            monitoring_state="disabled",
        )
        for instance in reservation.instances:
            instance.vk_reservation = reservation
            instance.vk_profile = pool.data.get("IamInstanceProfile")
            instance.vk_credits = (pool.data.get("CreditSpecification") or {}).get("CpuCredits", "")
            interface = instance.nics[0]
            interface.add_tags(tags.get("network-interface", {}))
            for _ in range(int(nic.get("SecondaryPrivateIpAddressCount") or 0)):
                add_address(interface, instance)
            interface.ipv6_addresses = []
            interface.vk_primary_ipv6 = str(nic.get("PrimaryIpv6")).lower() == "true"
            for _ in range(_count_ipv6(nic, subnet)):
                add_ipv6(interface)
            interface.ipv4_prefixes = [
                {"Ipv4Prefix": take_prefix(subnet, instance)} for _ in range(int(nic.get("Ipv4PrefixCount") or 0))
            ]
            self._states.begin(instance)
        return reservation.instances, error

    def _check(self, response: Any, pool: Pool) -> None:
        if pool.instance_type not in INSTANCE_TYPES:
            raise refuse("InvalidParameterValue", f"Invalid value '{pool.instance_type}' for InstanceType.")
        response.ec2_backend.describe_images(ami_ids=[pool.data["ImageId"]])
        zone = response.ec2_backend.get_subnet(pool.subnet_id).availability_zone
        offered = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(response.region, ())
        if not any((each["InstanceType"], each["Location"]) == (pool.instance_type, zone) for each in offered):
            text = f"Your requested instance type ({pool.instance_type}) is not supported in {zone}."
            raise refuse("Unsupported", text)
        profile = pool.data.get("IamInstanceProfile") or {}
        if profile:
            filter_iam_instance_profiles(
                response.current_account, response.partition, profile.get("Arn"), profile.get("Name")
            )
        if pool.data.get("CreditSpecification") and not INSTANCE_TYPES[pool.instance_type].get(
            "BurstablePerformanceSupported"
        ):
            text = f"The {pool.instance_type} instance type does not support T2 Unlimited."
            raise refuse("InstanceCreditSpecification.NotSupported", text)
        nics = pool.data.get("NetworkInterfaces") or [{}]
        if nics[0].get("SecondaryPrivateIpAddressCount") and pool.kind not in self._faults.plan.in_call:
            raise refuse(
                "InvalidParameterCombination",
                "Secondary private IP addresses may not be specified when launching multiple instances.",
            )

        if nics[0].get("Ipv6AddressCount"):
            if pool.kind not in self._faults.plan.ipv6_in_call:
                raise refuse("InvalidParameterCombination", "IPv6 addresses may not be specified in this launch.")
            _find_block(response.ec2_backend.get_subnet(pool.subnet_id))

    def _check_volumes(self, backend: Any, pool: Pool) -> None:
        """A snapshot that is named exists, and is complete; the account's volumes have a limit."""
        devices = pool.data.get("BlockDeviceMappings") or []
        for snapshot_id in [each["Ebs"].get("SnapshotId") for each in devices if each.get("Ebs")]:
            if snapshot_id and snapshot_id not in backend.snapshots:
                raise refuse("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
        limit = self._faults.plan.max_volumes
        used = sum(len(each.block_device_mapping) for each in backend.all_instances() if each.state in LIVE)
        if limit and used + len(devices) > limit:
            raise refuse("VolumeLimitExceeded", "You have exceeded your maximum gp3 storage limit.")

    def _limit(self, backend: Any, pool: Pool, subnet: Any, wanted: int) -> tuple[int, EC2ClientError | None]:
        plan, error = self._faults.plan, None
        live = [each for each in backend.all_instances() if each.state in LIVE]
        if plan.max_instances and (left := max(0, plan.max_instances - len(live))) < wanted:
            wanted, error = left, refuse("InstanceLimitExceeded", "Your quota allows for 0 more running instance(s).")
        family = pool.instance_type.partition(".")[0]
        if family in plan.max_vcpus:
            used = sum(_vcpus(each.instance_type) for each in live if each.instance_type.startswith(f"{family}."))
            left = max(0, plan.max_vcpus[family] - used) // _vcpus(pool.instance_type)
            if left < wanted:
                wanted, error = left, refuse("VcpuLimitExceeded", "You have requested more vCPU capacity than allowed.")
        nic = (pool.data.get("NetworkInterfaces") or [{}])[0]
        each = 1 + int(nic.get("SecondaryPrivateIpAddressCount") or 0) + PREFIX * int(nic.get("Ipv4PrefixCount") or 0)
        if (left := free_addresses(subnet) // each) < wanted:
            text = f"There are not enough free addresses in subnet {subnet.id} to satisfy the request."
            wanted, error = left, refuse("InsufficientFreeAddressesInSubnet", text)
        name = f"{pool.instance_type}/{subnet.availability_zone}/{pool.lifecycle}/{subnet.id}"
        left, shortage = self._faults.room(name, wanted)
        if shortage is not None:
            wanted, error = left, refuse(shortage.code, f"There is not enough capacity for {name}.")
        return wanted, error

    def check_starts(self, backend: Any, instances: Sequence[Any]) -> None:
        """What a launch may lack a start may, too, but for addresses: EC2 starts all of a call, or none."""
        plan = self._faults.plan
        live = [each for each in backend.all_instances() if each.state in LIVE]
        if plan.max_instances and len(live) + len(instances) > plan.max_instances:
            raise refuse("InstanceLimitExceeded", "Your quota allows for 0 more running instance(s).")
        for family, most in plan.max_vcpus.items():
            of_family = [each for each in (*live, *instances) if each.instance_type.startswith(f"{family}.")]
            if sum(_vcpus(each.instance_type) for each in of_family) > most:
                raise refuse("VcpuLimitExceeded", "You have requested more vCPU capacity than allowed.")
        names = Counter(
            f"{each.instance_type}/{each.availability_zone}/{each.lifecycle or 'on-demand'}/{each.subnet_id}"
            for each in instances
        )
        for name, wanted in names.items():
            if (shortage := self._faults.take_room(name, wanted)) is not None:
                raise refuse(shortage.code, f"There is not enough capacity for {name}.")


def _find_mappings(override: Json) -> Json:
    """The block devices of an override take the place of the template's."""
    mappings = override.get("BlockDeviceMappings")
    return {"BlockDeviceMappings": mappings} if mappings else {}


def _vcpus(instance_type: str) -> int:
    return int(INSTANCE_TYPES[instance_type]["VCpuInfo"]["DefaultVCpus"])


def _parameters(response: Any) -> Json:
    return {name: value for name, value in response.data.items() if name != "ClientToken"}


def free_addresses(subnet: Any) -> int:
    """AWS keeps five of each subnet."""
    return int(subnet.cidr.num_addresses) - 5 - len(subnet._subnet_ips)


def add_address(interface: Any, holder: Any) -> str:
    """A secondary address from the subnet. Raises InsufficientFreeAddressesInSubnet."""
    subnet = interface.subnet
    if free_addresses(subnet) <= 0:
        text = f"There are not enough free addresses in subnet {subnet.id} to satisfy the request."
        raise refuse("InsufficientFreeAddressesInSubnet", text)
    address: str = subnet.get_available_subnet_ip(holder)
    interface.private_ip_addresses.append({"Primary": False, "PrivateIpAddress": address})
    return address


def _count_ipv6(nic: Json, subnet: Any) -> int:
    """A subnet may give one to each interface by itself."""
    by_itself = bool(subnet.assign_ipv6_address_on_creation in (True, "true") and subnet.ipv6_cidr_block_associations)
    return int(nic.get("Ipv6AddressCount") or by_itself)


def _find_block(subnet: Any) -> str:
    for each in subnet.ipv6_cidr_block_associations.values():
        if each["ipv6CidrBlockState"]["State"] == "associated":
            return str(each["ipv6CidrBlock"])
    raise refuse("InvalidParameterValue", f"The subnet {subnet.id} has no IPv6 CIDR block.")


def add_ipv6(interface: Any) -> str:
    """Another address from the subnet's block, anywhere in it."""
    network = ipaddress.IPv6Network(_find_block(interface.subnet))
    while (address := str(network[random.randrange(16, network.num_addresses)])) in interface.ipv6_addresses:
        pass
    interface.ipv6_addresses.append(address)
    return address


def take_prefix(subnet: Any, holder: Any) -> str:
    """A free /28 of the subnet, from its end."""
    for block in _blocks(subnet.cidr):
        addresses = [str(address) for address in block]
        if not any(address in subnet._subnet_ips for address in addresses):
            for address in addresses:
                subnet.request_ip(address, holder)
            return str(block)
    raise refuse("InsufficientFreeAddressesInSubnet", f"There is no free /28 in subnet {subnet.id}.")


def _blocks(network: ipaddress.IPv4Network) -> Iterator[ipaddress.IPv4Network]:
    blocks = list(network.subnets(new_prefix=28))
    return reversed(blocks[1:-1])
