"""Puts EC2's behaviour in the place of moto's, where moto's differs."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import TagLimitExceeded
from moto.ec2.models import ec2_backends
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.elastic_network_interfaces import NetworkInterface, NetworkInterfaceBackend
from moto.ec2.models.instances import Reservation
from moto.ec2.models.subnets import Subnet
from moto.ec2.models.tags import TagBackend
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.responses.elastic_block_store import ElasticBlockStore
from moto.ec2.responses.elastic_network_interfaces import ElasticNetworkInterfaces
from moto.ec2.responses.fleets import Fleets
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.spot_instances import SpotInstances
from moto.ec2.responses.tags import TagResponse

from tests.moto.faults import Faults, Refusal
from tests.moto.launches import Launches, add_address, add_ipv6, refuse
from tests.moto.snapshots import Snapshots
from tests.moto.spotprices import SpotPrices
from tests.moto.states import States

MAX_TAGS = 50
_create_tags = TagResponse.create_tags
MIN_RESULTS, MAX_RESULTS = 5, 1000


class Ec2:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.states = States(faults)
        self.launches = Launches(faults, self.states)
        self.spot_prices = SpotPrices()
        self.snapshots = Snapshots(faults)

    def install(self) -> None:
        """For the life of the process."""
        InstanceResponse.run_instances = _method(self.launches.run_instances)
        InstanceResponse.describe_instances = _method(self._describe)
        InstanceResponse.describe_instance_credit_specifications = _method(self._describe_credits)
        InstanceResponse.terminate_instances = _method(self._terminate)
        InstanceResponse.stop_instances = _method(self._stop)
        InstanceResponse.start_instances = _method(self._start)
        TagBackend.create_tags = _keep_tags
        TaggedEC2Resource.get_tags = _get_tags
        TagResponse.create_tags = _method(self._create_tags)
        AmisResponse.register_image = _method(self._register_image)
        Fleets.create_fleet = _method(self.launches.create_fleet)
        SpotInstances.describe_spot_price_history = _method(self.spot_prices.describe)
        ElasticBlockStore.create_snapshot = _method(self.snapshots.create)
        ElasticBlockStore.describe_snapshots = _method(self.snapshots.describe)
        ElasticBlockStore.delete_snapshot = _method(self.snapshots.delete)
        General.get_console_output = _method(self.snapshots.read_console)
        ElasticNetworkInterfaces.assign_private_ip_addresses = _method(self._assign)
        ElasticNetworkInterfaces.assign_ipv6_addresses = _method(self._assign_ipv6)
        NetworkInterface.instance_ipv6_address_list = property(_list_ipv6)
        Subnet.ipv6_cidr_block_association_set = property(_list_blocks)

    @staticmethod
    def _register_image(response: Any) -> ActionResult:
        """An image is of the architecture and has the root device that it was registered with."""
        ami = response.ec2_backend.register_image(response._get_param("Name"), response._get_param("Description"))
        ami.architecture = response._get_param("Architecture") or "i386"
        ami.root_device_name = response._get_param("RootDeviceName")
        return ActionResult({"ImageId": ami.id})

    @staticmethod
    def _create_tags(response: Any) -> ActionResult:
        """An instance that does not exist has no tags."""
        known = {instance.id for instance in response.ec2_backend.all_instances()}
        for name in response._get_param("Resources", []):
            if name.startswith("i-") and name not in known:
                raise refuse("InvalidInstanceID.NotFound", f"The instance ID '{name}' does not exist")
        return _create_tags(response)

    def reset(self) -> None:
        self.states.reset()
        self.launches.reset()
        self.spot_prices.rows.clear()
        self.snapshots.reset()

    def control(self, name: str, body: dict[str, Any]) -> Any:
        """What tests do to instances: `instance` sets a state, as AWS or the machine itself would. `spot-prices` are
        those that there have been. `tags` answers those of all resources.
        `console` is what an instance has written; `snapshot` sets a state."""
        if name == "spot-prices":
            self.spot_prices.rows[:] = [tuple(row) for row in body["rows"]]
            return {}
        if name == "console":
            self.snapshots.consoles[body["instance_id"]] = body["text"]
            return {}
        if name == "snapshot":
            self.snapshots.states[body["snapshot_id"]] = body["state"]
            return {}
        if name == "tags":
            return _list_tags()
        if name != "instance":
            raise KeyError(name)
        self.states.set(_find(body["instance_id"]), body["state"], body.get("reason", ""))
        return {}

    # --- DescribeInstances ---------------------------------------------------------------------------------------

    def _describe(self, response: Any) -> ActionResult:
        """Instances, not reservations, are counted on a page."""
        get = response._get_param
        ids, page_size = get("InstanceIds", []), get("MaxResults")
        filters = {each["Name"]: each.get("Values", []) for each in get("Filters", []) or get("Filter", [])}
        if page_size is not None and not MIN_RESULTS <= int(page_size) <= MAX_RESULTS:
            raise refuse("InvalidParameterValue", f"MaxResults must be from {MIN_RESULTS} to {MAX_RESULTS}")
        for name in filters:
            if name not in _FIELDS and name != "tag-key" and not name.startswith("tag:"):
                raise refuse("InvalidParameterValue", f"The filter '{name}' is invalid")
        if ids and page_size is not None:
            raise refuse("InvalidParameterCombination", "instancesSet cannot be used with the parameter maxResults")
        everything = [
            (reservation, shown)
            for reservation in response.ec2_backend.reservations.values()
            for instance in reservation.instances
            if (shown := self.states.show(instance)) is not None
        ]
        if missing := sorted(set(ids) - {instance.id for _, instance in everything}):
            raise refuse("InvalidInstanceID.NotFound", f"The instance ID '{', '.join(missing)}' does not exist")
        wanted = [
            (reservation, instance)
            for reservation, instance in everything
            if (not ids or instance.id in ids) and all(_passes(instance, *each) for each in filters.items())
        ]
        first = int(get("NextToken") or 0)
        last = first + int(page_size or MAX_RESULTS)
        page: dict[str, Reservation] = {}
        for reservation, instance in wanted[first:last]:
            shown_as = page.setdefault(reservation.id, Reservation(reservation.id, reservation.owner_id))
            shown_as.instances.append(instance)
        token = str(last) if last < len(wanted) else None
        return ActionResult({"Reservations": list(page.values()), "NextToken": token})

    @staticmethod
    def _describe_credits(response: Any) -> ActionResult:
        """What they were launched with; "standard" for those that nothing was asked for."""
        named = set(response._get_param("InstanceIds", []))
        found = [
            {"InstanceId": each.id, "CpuCredits": getattr(each, "vk_credits", "") or "standard"}
            for each in response.ec2_backend.all_instances()
            if each.id in named
        ]
        return ActionResult({"InstanceCreditSpecifications": found})

    # --- TerminateInstances --------------------------------------------------------------------------------------

    def _terminate(self, response: Any) -> ActionResult:
        ids = response._get_param("InstanceIds", [])
        known = {instance.id: instance for instance in response.ec2_backend.all_instances()}
        if missing := [each for each in ids if each not in known]:
            plural = "s" if len(missing) > 1 else ""
            raise refuse("InvalidInstanceID.NotFound", f"The instance ID{plural} '{', '.join(missing)}' do not exist")
        for instance_id in ids:
            if instance_id in self._faults.plan.protected or known[instance_id].disable_api_termination:
                raise refuse(
                    "OperationNotPermitted",
                    f"The instance '{instance_id}' may not be terminated. Modify its 'disableApiTermination' instance "
                    "attribute and try again.",
                )
        self._take_resources("TerminateInstances", len(ids))
        return ActionResult({"TerminatingInstances": _change(self.states.terminate, [known[each] for each in ids])})

    def _take_resources(self, api: str, count: int) -> None:
        try:
            self._faults.take_resources(api, count)
        except Refusal as refusal:
            raise refuse(refusal.code, refusal.message) from refusal

    # --- StopInstances, StartInstances ---------------------------------------------------------------------------

    def _named(self, response: Any) -> list[Any]:
        """The call is about all of them, or fails."""
        ids = response._get_param("InstanceIds", [])
        known = {instance.id: instance for instance in response.ec2_backend.all_instances()}
        for instance_id in ids:
            if instance_id not in known:
                raise refuse("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
        return [known[instance_id] for instance_id in ids]

    def _stop(self, response: Any) -> ActionResult:
        instances = self._named(response)
        for instance in instances:
            if instance.lifecycle == "spot":
                raise refuse(
                    "UnsupportedOperation",
                    f"You can't stop the Spot Instance '{instance.id}' because it is associated with a one-time Spot "
                    "Instance request. You can only stop Spot Instances associated with persistent Spot Instance "
                    "requests.",
                )
            if instance.state in ("pending", "shutting-down", "terminated"):
                text = f"This instance '{instance.id}' is not in a state from which it can be stopped."
                raise refuse("IncorrectInstanceState", text)
        self._take_resources("StopInstances", len(instances))
        return ActionResult({"StoppingInstances": _change(self.states.stop, instances)})

    def _start(self, response: Any) -> ActionResult:
        instances = self._named(response)
        for instance in instances:
            if instance.state in ("stopping", "shutting-down", "terminated"):
                text = f"The instance '{instance.id}' is not in a state from which it can be started."
                raise refuse("IncorrectInstanceState", text)
        self._take_resources("StartInstances", len(instances))
        self.launches.check_starts(
            response.ec2_backend, [instance for instance in instances if instance.state == "stopped"]
        )
        return ActionResult({"StartingInstances": _change(self.states.start, instances)})

    # --- AssignPrivateIpAddresses --------------------------------------------------------------------------------

    def _assign(self, response: Any) -> ActionResult:
        """The addresses are the subnet's own, and the answer has the new ones alone."""
        interface = response.ec2_backend.get_network_interface(response._get_param("NetworkInterfaceId"))
        count = response._get_int_param("SecondaryPrivateIpAddressCount", 0)
        named = response._get_param("PrivateIpAddresses", [])
        if named:
            NetworkInterfaceBackend.assign_private_ip_addresses(response.ec2_backend, interface.id, named)
            added = list(named)
        else:
            added = [add_address(interface, interface.instance) for _ in range(count)]
        assigned = [{"PrivateIpAddress": address} for address in added]
        return ActionResult({"NetworkInterfaceId": interface.id, "AssignedPrivateIpAddresses": assigned})

    @staticmethod
    def _assign_ipv6(response: Any) -> ActionResult:
        """The answer has the new ones alone."""
        interface = response.ec2_backend.get_network_interface(response._get_param("NetworkInterfaceId"))
        added = [add_ipv6(interface) for _ in range(response._get_int_param("Ipv6AddressCount", 0))]
        return ActionResult({"NetworkInterfaceId": interface.id, "AssignedIpv6Addresses": added})


def _list_ipv6(interface: Any) -> list[dict[str, Any]]:
    """The first one is the primary one, where that was asked for."""
    primary = getattr(interface, "vk_primary_ipv6", False)
    return [
        {"Ipv6Address": address, "IsPrimaryIpv6": primary and not place}
        for place, address in enumerate(interface.ipv6_addresses)
    ]


def _list_blocks(subnet: Any) -> list[dict[str, Any]]:
    """In the API's words; moto's are lost on the way."""
    return [
        {
            "AssociationId": each["associationId"],
            "Ipv6CidrBlock": each["ipv6CidrBlock"],
            "Ipv6CidrBlockState": {"State": each["ipv6CidrBlockState"]["State"]},
        }
        for each in subnet.ipv6_cidr_block_associations.values()
    ]


def _change(change: Callable[[Any], None], instances: list[Any]) -> list[dict[str, Any]]:
    """Carry a change out; what EC2 answers of it."""
    changes = []
    for instance in instances:
        before = instance._state
        change(instance)
        now = instance._state
        changes.append(
            {
                "InstanceId": instance.id,
                "PreviousState": {"Code": before.code, "Name": before.name},
                "CurrentState": {"Code": now.code, "Name": now.name},
            }
        )
    return changes


def _keep_tags(backend: Any, resource_ids: list[str], tags: dict[str, str]) -> bool:
    """Fifty a resource; AWS's own do not count."""
    for resource_id in resource_ids:
        both = {**backend.tags[resource_id], **tags}
        if sum(not key.startswith("aws:") for key in both) > MAX_TAGS:
            raise TagLimitExceeded
    for resource_id in resource_ids:
        backend.tags[resource_id].update(tags)
    return True


def _get_tags(resource: Any) -> list[dict[str, str]]:
    """moto looks through the tags of all resources for those of one."""
    tags = resource.ec2_backend.tags.get(resource.id, {})
    return [{"resource_id": resource.id, "key": key, "value": value} for key, value in tags.items()]


def _method(function: Callable[[Any], ActionResult]) -> Any:
    return lambda response: function(response)


def _list_tags() -> dict[str, dict[str, str]]:
    """Also of instances and network interfaces that have none."""
    found: dict[str, dict[str, str]] = {}
    for account in ec2_backends.values():
        for backend in account.values():
            named = [*(each.id for each in backend.all_instances()), *backend.enis]
            found |= {each: {} for each in named} | {each: dict(tags) for each, tags in backend.tags.items()}
    return found


def _find(instance_id: str) -> Any:
    for account in ec2_backends.values():
        for backend in account.values():
            for instance in backend.all_instances():
                if instance.id == instance_id:
                    return instance
    raise KeyError(instance_id)


_FIELDS: dict[str, Callable[[Any], Any]] = {
    "instance-id": lambda i: i.id,
    "instance-type": lambda i: i.instance_type,
    "instance-state-name": lambda i: i.state,
    "instance-lifecycle": lambda i: i.lifecycle or "",
    "client-token": lambda i: i.client_token or "",
    "availability-zone": lambda i: i.availability_zone,
    "subnet-id": lambda i: i.subnet_id,
    "vpc-id": lambda i: i.vpc_id,
    "image-id": lambda i: i.image_id,
    "private-ip-address": lambda i: [nic.private_ip_address for nic in i.nics.values()],
    "network-interface.subnet-id": lambda i: [nic.subnet.id for nic in i.nics.values()],
    "network-interface.network-interface-id": lambda i: [nic.id for nic in i.nics.values()],
    "network-interface.addresses.private-ip-address": lambda i: [
        each["PrivateIpAddress"] for nic in i.nics.values() for each in nic.private_ip_addresses
    ],
    "iam-instance-profile.arn": lambda i: (getattr(i, "vk_profile", None) or {}).get("Arn", ""),
}


def _passes(instance: Any, name: str, values: list[str]) -> bool:
    """Values may have * and ?, as EC2 takes them."""
    if name == "tag-key":
        found: Any = [tag["key"] for tag in instance.get_tags()]
    elif name.startswith("tag:"):
        found = [tag["value"] for tag in instance.get_tags() if tag["key"] == name.removeprefix("tag:")]
    else:
        found = _FIELDS[name](instance)
    found = found if isinstance(found, list) else [found]
    if not any(set("*?[") & set(value) for value in values):
        return not set(values).isdisjoint(found)
    return any(fnmatchcase(each, value) for each in found for value in values)
