"""States that take time, and a view of them that lags behind."""

from __future__ import annotations

import copy
import heapq
import itertools
import time
from datetime import timedelta
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.models.instances import Instance, InstanceState, StateReason

from tests.moto.faults import Faults

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
LIVE = ("pending", "running", "stopping", "shutting-down")
USER = StateReason("Client.UserInitiatedShutdown: User initiated shutdown", "Client.UserInitiatedShutdown")

_terminate = Instance.terminate


class States:
    """`advance` before each call brings instances to where they are by now."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._due: list[tuple[float, int, Instance, str]] = []
        self._numbers = itertools.count()

    def reset(self) -> None:
        self._due.clear()

    def begin(self, instance: Any) -> None:
        instance.vk_history = []
        self._set(instance, "pending")
        self._later(instance, "running", self._faults.plan.pending_s)

    def terminate(self, instance: Any, reason: StateReason = USER) -> None:
        """Accepted: shutting-down, and terminated after a while."""
        if instance.state in ("shutting-down", "terminated"):
            return
        instance.state_reason = reason
        self._set(instance, "shutting-down")
        self._later(instance, "terminated", self._faults.plan.shutdown_s)

    def stop(self, instance: Any) -> None:
        """Accepted: stopping, and stopped after a while. Its disk and its private addresses stay."""
        if instance.state in ("stopping", "stopped"):
            return
        instance.state_reason = USER
        instance._reason = f"User initiated ({utcnow().strftime('%Y-%m-%d %H:%M:%S GMT')})"
        self._set(instance, "stopping")
        self._later(instance, "stopped", self._faults.plan.shutdown_s)

    def start(self, instance: Any) -> None:
        """Accepted: as a launch of now. EC2 says whole seconds, and takes longer than one from a launch to a start."""
        if instance.state in ("pending", "running"):
            return
        instance.launch_time = max(utcnow(), instance.launch_time + timedelta(seconds=1))
        instance.state_reason, instance._reason = StateReason(), ""
        self._set(instance, "pending")
        self._later(instance, "running", self._faults.plan.pending_s)

    def set(self, instance: Any, name: str, reason: str) -> None:
        """What AWS, or the machine itself, does to an instance."""
        code = reason.partition(":")[0]
        if name in ("shutting-down", "terminated"):
            self.terminate(instance, StateReason(reason, code))
            if name == "terminated":
                self._arrive(instance, "terminated")
            return
        instance.state_reason = StateReason(reason, code)
        self._set(instance, name)

    def advance(self) -> None:
        now = time.time()
        while self._due and self._due[0][0] <= now:
            _, _, instance, name = heapq.heappop(self._due)
            self._arrive(instance, name)

    def _later(self, instance: Any, name: str, after_s: float) -> None:
        heapq.heappush(self._due, (time.time() + after_s, next(self._numbers), instance, name))

    def _arrive(self, instance: Any, name: str) -> None:
        if name == "running" and instance.state != "pending":
            return
        if name == "stopped" and instance.state != "stopping":
            return
        if name == "terminated":
            if instance.state == "terminated":
                return
            reason = instance.state_reason
            _terminate(instance)
            instance.state_reason = reason
        self._set(instance, name)

    def _set(self, instance: Any, name: str) -> None:
        instance._state = InstanceState(name, CODES[name])
        instance.vk_history.append((time.time(), name, instance.launch_time))

    def show(self, instance: Any) -> Any:
        """The instance as DescribeInstances shows it now: None when it does not list it yet."""
        lag_s = self._faults.plan.lag_s
        history = getattr(instance, "vk_history", None)
        if not lag_s or history is None:
            return instance
        seen = [(name, launched) for at, name, launched in history if at <= time.time() - lag_s]
        if not seen:
            return None
        if seen[-1] == (instance.state, instance.launch_time):
            return instance
        shown = copy.copy(instance)
        shown._private_ips = set()  # or the copy's end would give the addresses back
        name, shown.launch_time = seen[-1]
        shown._state = InstanceState(name, CODES[name])
        return shown
