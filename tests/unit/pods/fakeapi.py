"""An API server that holds pods in memory: the rules of status PATCHes that matter, and watch events."""

from __future__ import annotations

import asyncio
import copy
import ipaddress
import itertools
from collections.abc import Callable
from typing import Any

from vk_provider.errors import KubeApiError
from vk_provider.jsontypes import Json

OnPod = Callable[[str, Json], None]


class FakeApi:
    """The part of KubeClient that pods uses.

    down:    nothing is answered
    history: phases as they were patched
    refuse:  the error for the body of a status PATCH that is not accepted, None for one that is
    before, after: what another writer does just before the next status PATCH is applied, and just after; the watch
             events of both arrive before the answer does
    normalize: what the API server makes of a status that it stores
    node:    the one Node, as a GET reads it
    """

    def __init__(self) -> None:
        self.pods: dict[tuple[str, str], Json] = {}
        self.on_pod: OnPod = lambda kind, pod: None
        self.down = False
        self.patches: list[Json] = []
        self.history: list[str] = []
        self.deletes = 0
        self.delay_s = 0.0
        self.refuse: Callable[[Json], KubeApiError | None] = lambda status: None
        self.before: Callable[[], None] | None = None
        self.after: Callable[[], None] | None = None
        self.normalize: Callable[[Json], Json] = lambda status: status
        self.node: Callable[[], Json | None] = lambda: None
        self._versions = itertools.count(1)

    def add(self, pod: Json) -> Json:
        self.pods[(pod["metadata"]["namespace"], pod["metadata"]["name"])] = pod
        self._changed("ADDED", pod)
        return pod

    def mark_deleting(self, pod: Json, grace_s: int = 30) -> None:
        """What a DELETE with a grace period does to a bound pod."""
        held = self.pods[(pod["metadata"]["namespace"], pod["metadata"]["name"])]
        held["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace_s}
        self._changed("MODIFIED", held)

    def set_status(self, pod: Json, **fields: Any) -> None:
        """What another controller or a user writes into the status."""
        held = self.pods[(pod["metadata"]["namespace"], pod["metadata"]["name"])]
        held["status"] = {**held["status"], **fields}
        self._changed("MODIFIED", held)

    def unset_status(self, pod: Json, *names: str) -> None:
        """Another writer takes fields away."""
        held = self.pods[(pod["metadata"]["namespace"], pod["metadata"]["name"])]
        held["status"] = {name: value for name, value in held["status"].items() if name not in names}
        self._changed("MODIFIED", held)

    def set_condition(self, pod: Json, kind: str, **fields: Any) -> None:
        """Another writer changes one condition."""
        held = self.status(pod)["conditions"]
        self.set_status(pod, conditions=[{**item, **fields} if item["type"] == kind else item for item in held])

    def remove(self, pod: Json) -> None:
        """Force deletion."""
        held = self.pods.pop((pod["metadata"]["namespace"], pod["metadata"]["name"]))
        self._changed("DELETED", held)

    def status(self, pod: Json) -> Json:
        found: Json = self.pods[(pod["metadata"]["namespace"], pod["metadata"]["name"])].get("status") or {}
        return found

    def _changed(self, kind: str, pod: Json) -> None:
        pod["metadata"]["resourceVersion"] = str(next(self._versions))
        asyncio.get_running_loop().call_soon(self.on_pod, kind, copy.deepcopy(pod))

    async def _answer(self, path: str) -> Json:
        await asyncio.sleep(self.delay_s)
        if self.down:
            raise KubeApiError(0, "Unreachable", "connection refused")
        parts = path.split("/")
        pod = self.pods.get((parts[4], parts[6]))
        if pod is None:
            raise KubeApiError(404, "NotFound", f'pods "{parts[6]}" not found')
        return pod

    async def get(self, path: str) -> Json:
        if path.startswith("/api/v1/nodes/"):
            await asyncio.sleep(self.delay_s)
            if self.down or (node := self.node()) is None:
                raise KubeApiError(404, "NotFound", "no such node")
            return copy.deepcopy(node)
        return copy.deepcopy(await self._answer(path))

    async def patch_strategic(self, path: str, body: Json) -> Json:
        pod = await self._answer(path)
        if body["metadata"]["uid"] != pod["metadata"]["uid"]:
            message = (
                f'Pod "p" is invalid: metadata.uid: Invalid value: "{body["metadata"]["uid"]}": field is immutable'
            )
            raise KubeApiError(422, "Invalid", message)
        if (error := self.refuse(body["status"])) is not None:
            raise error
        before, after, self.before, self.after = self.before, self.after, None, None
        if before is not None:
            before()
        self.patches.append(copy.deepcopy(body["status"]))
        pod["status"] = self.normalize(merge_status(pod.get("status") or {}, copy.deepcopy(body["status"])))
        if "phase" in body["status"]:
            self.history.append(body["status"]["phase"])
        self._changed("MODIFIED", pod)
        answer = copy.deepcopy(pod)
        if after is not None:
            after()
        if before is not None or after is not None:
            await asyncio.sleep(0.01)
        return answer

    async def delete(self, path: str, body: Json) -> Json:
        pod = await self._answer(path)
        if body["preconditions"]["uid"] != pod["metadata"]["uid"]:
            raise KubeApiError(409, "Conflict", "the UID in the precondition (a) does not match the UID in record (b)")
        assert body["gracePeriodSeconds"] == 0
        self.deletes += 1
        self.remove(pod)
        return pod


def merge_status(status: Json, patch: Json) -> Json:
    """A strategic merge PATCH of a PodStatus, and the checks of its result."""
    merged = dict(status)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif name == "conditions":
            merged[name] = _merge_list(status.get(name) or [], value, "type")
        elif name in ("podIPs", "hostIPs"):
            merged[name] = _merge_list(status.get(name) or [], value, "ip")
            families = [ipaddress.ip_address(each["ip"]).version for each in merged[name]]
            if len(families) > len(set(families)):
                raise KubeApiError(422, "Invalid", f"{name}: may specify no more than one value for each IP family")
        else:
            merged[name] = value
    return merged


def _merge_list(old: list[Json], patch: list[Json], key: str) -> list[Json]:
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    merged = {item[key]: item for item in old}
    for item in patch:
        if item.get("$patch") == "delete":
            merged.pop(item[key], None)
        else:
            both = {**merged.get(item[key], {}), **item}
            merged[item[key]] = {name: value for name, value in both.items() if value is not None}
            if key == "type":
                merged[item[key]]["lastProbeTime"] = None
    return list(merged.values())
