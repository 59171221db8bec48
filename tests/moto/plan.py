"""The fault plan: what a test switches on. Sent as JSON to /vk-test/plan; every plan replaces the one before."""

from __future__ import annotations

from msgspec import Struct


class Rule(Struct, frozen=True):
    """One kind of failure of calls.

    api:     name with * for any, such as "RunInstances"
    code:    the error code of the answer; status: its HTTP status
    times:   how often at most, 0 for ever
    share:   of the calls that it could meet, drawn from the plan's seed
    after:   the call is carried out first, and its answer is lost
    delay_s: the answer comes so much later; without a code it is only late
    retry_after_s: for the header Retry-After
    """

    api: str
    code: str = ""
    message: str = "injected"
    status: int = 400
    times: int = 0
    share: float = 1.0
    after: bool = False
    delay_s: float = 0.0
    retry_after_s: float = 0.0


class Bucket(Struct, frozen=True):
    """AWS's token bucket: `burst` at once, `rate` more a second."""

    burst: float
    rate: float


class Shortage(Struct, frozen=True):
    """Launches and starts of an offering that meet an error. offering: "type/zone/capacity type/subnet" with * for any.
    room: how many instances may be launched before they do. share: of the tries, drawn from the plan's seed."""

    offering: str
    code: str = "InsufficientInstanceCapacity"
    room: int = 0
    share: float = 1.0


class Plan(Struct, frozen=True):
    """Nothing is wrong by default.

    requests:  by API, "*" for all others together but reads: requests a second
    resources: by API: instances of RunInstances and CreateFleet together, of TerminateInstances, StopInstances and
               StartInstances
    max_instances: the account's limit (InstanceLimitExceeded); 0 for none
    max_vcpus: by family (VcpuLimitExceeded)
    pending_s, shutdown_s: how long instances are pending, and shutting-down or stopping
    lag_s:     DescribeInstances shows what was true so long ago, and does not list what is younger
    in_call:   which launches may have a secondary address at once: "one" (RunInstances of one instance), "many" (of
               several), "fleet". AWS documents that "many" may not
    ipv6_in_call: which launches may have IPv6 addresses at once; AWS documents that all may
    snapshot_s: how long snapshots are pending
    max_snapshots, max_volumes: the account's limits (SnapshotLimitExceeded, VolumeLimitExceeded); 0 for none
    protected: instances that may not be terminated
    """

    seed: int = 1
    rules: tuple[Rule, ...] = ()
    requests: dict[str, Bucket] = {}
    resources: dict[str, Bucket] = {}
    shortages: tuple[Shortage, ...] = ()
    max_instances: int = 0
    max_vcpus: dict[str, int] = {}
    pending_s: float = 0.0
    shutdown_s: float = 0.0
    lag_s: float = 0.0
    in_call: tuple[str, ...] = ("one", "fleet")
    ipv6_in_call: tuple[str, ...] = ("one", "many", "fleet")
    protected: tuple[str, ...] = ()
    snapshot_s: float = 0.0
    max_snapshots: int = 0
    max_volumes: int = 0
