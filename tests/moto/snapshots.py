"""Snapshots that take their time, what a console says, and volumes of snapshots."""

from __future__ import annotations

import time
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.ec2.models.elastic_block_store import EBSBackend
from moto.ec2.utils import Base64EncodedString

from tests.moto.faults import Faults
from tests.moto.launches import refuse

Json = dict[str, Any]
MIN_RESULTS, MAX_RESULTS = 5, 1000
XEN = ("t2.", "m4.", "c4.")
_create_snapshot = EBSBackend.create_snapshot


class Snapshots:
    """consoles: by instance."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._since: dict[str, float] = {}
        self.states: dict[str, str] = {}
        self.consoles: dict[str, str] = {}

    def reset(self) -> None:
        self._since.clear()
        self.states.clear()
        self.consoles.clear()

    def create(self, response: Any) -> ActionResult:
        """Answered at once, and pending until what the volume had then is copied. One of an account's limit."""
        backend = response.ec2_backend
        limit = self._faults.plan.max_snapshots
        if limit and sum(each.owner_id == backend.account_id for each in backend.snapshots.values()) >= limit:
            raise refuse("SnapshotLimitExceeded", "You have exceeded your snapshot quota.")
        tags = response._parse_tag_specification().get("snapshot", {})
        made = _create_snapshot(backend, response._get_param("VolumeId"), response._get_param("Description"))
        made.add_tags(tags)
        self._since[made.id] = time.time()
        return ActionResult(self._show(made))

    def describe(self, response: Any) -> ActionResult:
        """In pages."""
        get = response._get_param
        size = get("MaxResults")
        if size is not None and not MIN_RESULTS <= int(size) <= MAX_RESULTS:
            raise refuse("InvalidParameterValue", f"MaxResults must be from {MIN_RESULTS} to {MAX_RESULTS}")
        filters = {each["Name"]: each.get("Values", []) for each in get("Filters", []) or get("Filter", [])}
        for name in filters:
            if name not in ("status", "tag-key") and not name.startswith("tag:"):
                raise refuse("InvalidParameterValue", f"The filter '{name}' is invalid")
        owner = response.ec2_backend.account_id
        ids = get("SnapshotIds", [])
        if missing := sorted(set(ids) - set(response.ec2_backend.snapshots)):
            raise refuse("InvalidSnapshot.NotFound", f"The snapshot '{missing[0]}' does not exist.")
        found = [
            self._show(each)
            for each in response.ec2_backend.snapshots.values()
            if each.owner_id == owner and (not ids or each.id in ids)
        ]
        wanted = [each for each in found if all(_passes(each, *item) for item in filters.items())]
        first = int(get("NextToken") or 0)
        last = first + int(size or MAX_RESULTS)
        return ActionResult({"Snapshots": wanted[first:last], "NextToken": str(last) if last < len(wanted) else None})

    def delete(self, response: Any) -> ActionResult:
        snapshot_id = response._get_param("SnapshotId")
        if response.ec2_backend.snapshots.pop(snapshot_id, None) is None:
            raise refuse("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
        return EmptyResult()

    def _show(self, snapshot: Any) -> Json:
        due = self._since.get(snapshot.id, 0.0) + self._faults.plan.snapshot_s
        state = self.states.get(snapshot.id) or ("pending" if time.time() < due else "completed")
        return {
            "SnapshotId": snapshot.id,
            "VolumeId": snapshot.volume.id,
            "VolumeSize": int(snapshot.volume.size),
            "State": state,
            "StateMessage": "An internal error has occurred." if state == "error" else None,
            "StartTime": snapshot.start_time,
            "Progress": "100%" if state == "completed" else "10%",
            "OwnerId": snapshot.owner_id,
            "Encrypted": snapshot.encrypted,
            "Description": snapshot.description,
            "Tags": [{"Key": tag["key"], "Value": tag["value"]} for tag in snapshot.get_tags()],
        }

    def read_console(self, response: Any) -> ActionResult:
        """What the instance has written by now, of those that can tell it at once."""
        instance_id = response._get_param("InstanceId")
        known = {instance.id: instance for instance in response.ec2_backend.all_instances()}
        if instance_id not in known:
            raise refuse("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
        if response._get_param("Latest") in (True, "true") and known[instance_id].instance_type.startswith(XEN):
            text = f"The instance type {known[instance_id].instance_type} does not support retrieving the latest output"
            raise refuse("UnsupportedOperation", text)
        text = Base64EncodedString.from_raw_string(self.consoles.get(instance_id, ""))
        return ActionResult({"InstanceId": instance_id, "Timestamp": utcnow(), "Output": text})


def _passes(snapshot: Json, name: str, values: list[str]) -> bool:
    tags = {tag["Key"]: tag["Value"] for tag in snapshot["Tags"]}
    if name == "tag-key":
        return not tags.keys().isdisjoint(values)
    if name.startswith("tag:"):
        return tags.get(name.removeprefix("tag:")) in values
    return snapshot["State"] in values
