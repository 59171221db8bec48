"""Bursts, and single pods, from the bind to the call."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import aiohttp

from tests.bench.api import PodTimes, run_all
from tests.bench.ec2.rig import LAUNCHES, Calls, Rig, provider
from tests.bench.figure import Figure, median_figure, quantile
from tests.bench.machine import cpu_seconds
from tests.cluster.controlplane import ControlPlane
from tests.moto.plan import Bucket, Plan
from tests.moto.server import KEYS, MotoServer
from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.base import TAG_OWNER, LaunchRequest
from vk_provider.jsontypes import Json

EQUAL, SHAPES, MANY, BEYOND = 500, 50, 1000, 1040
SINGLE = 30
LIMIT_S = 600.0
RESOURCES = Bucket(1000, 2)
BUCKETS = Plan(
    resources={"RunInstances": RESOURCES},
    requests={"RunInstances": Bucket(5, 2), "CreateFleet": Bucket(5, 2), "*": Bucket(100, 10)},
)
"""resources: as AWS documents them; requests: as is believed."""
PROBE = "DescribeRegions"


@dataclass(frozen=True, slots=True)
class Burst:
    """calls: until the last pod was seen running. seconds: from the first create request, or from when all were bound,
    until then. cpu_s: of the provider."""

    calls: Calls
    seconds: float
    cpu_s: float
    waited: int


async def measure(plane: ControlPlane, moto: MotoServer) -> list[Figure]:
    return [
        *await _single(plane, moto),
        *await _equal(plane, moto),
        *await _shapes(plane, moto),
        *await _buckets(plane, moto),
    ]


# --- one pod -----------------------------------------------------------------------------------------------------


async def _single(plane: ControlPlane, moto: MotoServer) -> list[Figure]:
    """One after the other, each with a launch call of its own; in turns with the least that anybody could do: somebody
    watches pods, and calls AWS as soon as there is one."""
    ours, templates, least = [], [], []
    async with provider(plane, moto) as rig:
        times = await rig.times()
        for number in range(SINGLE + 1):
            before = len(moto.arrivals())
            name = f"single-{number:03}"
            bound_at = time.time()
            await times.create(rig.pod(name))
            await times.wait_running(name, LIMIT_S)
            came = moto.arrivals()[before:]
            launch_at = next(at for at, api in came if api in LAUNCHES)
            write_at = next(at for at, api in came if api in LAUNCHES or api.startswith("Create"))
            if number:  # the first one has connections to open
                ours.append((launch_at - bound_at) * 1000)
                templates.append((write_at - bound_at) * 1000)
            least.append(await _least(rig, number))
        await times.stop()
    ratios = [mine / other for mine, other in zip(ours, least[1:], strict=True)]
    p99 = quantile(ours, 0.99)
    return [
        median_figure(
            "bind_to_launch_p50",
            ours,
            "ms",
            goal=50,
            note=f"request to create a bound pod to the launch call's arrival at AWS; p99 {p99:.0f} ms",
        ),
        median_figure("bind_to_first_call_p50", templates, "ms", note="the same to the launch template before it"),
        median_figure(
            "bind_to_launch_least", least[1:], "ms", note="a watch that calls AWS at once, and does nothing else"
        ),
        median_figure("bind_to_launch_ratio", ratios, "x the least", note="pod by pod, in turns"),
    ]


async def _least(rig: Rig, number: int) -> float:
    """Milliseconds for somebody who watches pods and makes one call when there is one. The pod is no Node's."""
    opened, seen, name = asyncio.Event(), asyncio.Event(), f"least-{number:03}"

    def on_event(kind: str, pod: Json) -> None:
        if pod["metadata"]["name"] == name:
            seen.set()

    watch = asyncio.create_task(rig.api.watch(f"/api/v1/namespaces/{rig.namespace}/pods", on_event, opened))
    try:
        async with aiohttp.ClientSession() as session:
            await _probe(session, rig.moto.url)
            await opened.wait()
            pod = rig.pod(name)
            del pod["spec"]["nodeName"]
            pod["spec"]["schedulerName"] = "nobody"
            bound_at = time.time()
            create = asyncio.create_task(rig.api.call("POST", f"/api/v1/namespaces/{rig.namespace}/pods", pod))
            await seen.wait()
            await _probe(session, rig.moto.url)
            await create
        return (max(at for at, api in rig.moto.arrivals() if api == PROBE) - bound_at) * 1000
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def _probe(session: aiohttp.ClientSession, url: str) -> None:
    credential = f"{KEYS['AWS_ACCESS_KEY_ID']}/20260101/{KEYS['AWS_DEFAULT_REGION']}/ec2/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"}
    async with session.post(url, data={"Action": PROBE, "Version": "2016-11-15"}, headers=headers) as answer:
        await answer.read()


# --- bursts ------------------------------------------------------------------------------------------------------


async def _run(rig: Rig, pods: Sequence[Json], *, backlog: bool = False) -> Burst:
    """backlog: the provider is stopped until all are bound."""
    times = await rig.times()
    before: Counter[str] = rig.moto.calls()
    pid = rig.process.pid() or 0
    cpu, began = cpu_seconds(pid), time.perf_counter()
    if backlog:
        rig.process.signal(signal.SIGSTOP)
    await run_all(partial(times.create, pod) for pod in pods)
    if backlog:
        began = time.perf_counter()
        rig.process.signal(signal.SIGCONT)
    await times.wait(times.running, len(pods), LIMIT_S)
    calls = rig.calls(before)
    burst = Burst(calls, _last(times) - began, cpu_seconds(pid) - cpu, await rig.waited())
    await times.stop()
    print(f"  {len(pods)} pods: {burst.seconds:.1f} s, {dict(calls.by_api)}", file=sys.stderr, flush=True)
    return burst


def _last(times: PodTimes) -> float:
    return max(times.running.values())


async def _equal(plane: ControlPlane, moto: MotoServer) -> list[Figure]:
    figures = []
    for name, backlog in (("burst_created", False), ("burst_backlog", True)):
        async with provider(plane, moto) as rig:
            alone_s = await _alone(rig, EQUAL)
            burst = await _run(rig, [rig.pod(f"p{number:04}") for number in range(EQUAL)], backlog=backlog)
        how = "bound all at once" if backlog else "created one after the other, 64 requests at a time"
        figures += [
            Figure(f"{name}_launch_calls", burst.calls.launches, "calls", goal=10, note=f"{EQUAL} equal pods, {how}"),
            Figure(f"{name}_writes", burst.calls.writes, "calls", goal=30, note="write calls before the last pod runs"),
            Figure(
                f"{name}_describes", burst.calls.describes, "calls", goal=EQUAL / 10, note="reads; no pod has its own"
            ),
            Figure(
                f"{name}_ratio",
                burst.seconds / alone_s,
                "x the calls alone",
                note=f"{burst.seconds:.1f} s until the last runs; moto makes {EQUAL} in {alone_s:.1f} s",
                detail={"provider s CPU": round(burst.cpu_s, 2), **_counts(burst)},
            ),
        ]
    return figures


def _counts(burst: Burst) -> dict[str, float]:
    return {api: float(count) for api, count in sorted(burst.calls.by_api.items())}


async def _alone(rig: Rig, count: int) -> float:
    """Seconds of one launch call for so many, without a cluster; they are ended again."""
    os.environ.update({**KEYS, "AWS_EC2_METADATA_DISABLED": "true"})
    cloud = AwsCloud(rig.moto.settings(rig.account), "bench-alone")
    await cloud.start()
    try:
        offerings = [each for each in await cloud.describe_offerings() if each.cpu_milli >= 2000][:20]
        request = LaunchRequest("alone", tuple(offerings), {TAG_OWNER: "bench-alone"}, "{}", count)
        began = time.perf_counter()
        answer = await cloud.launch(request)
        seconds = time.perf_counter() - began
        if len(answer.instances) != count:
            raise RuntimeError(f"{len(answer.instances)} of {count} instances: {answer.failures}")
        await cloud.terminate([each.instance_id for each in answer.instances])
        return seconds
    finally:
        await cloud.close()


async def _shapes(plane: ControlPlane, moto: MotoServer) -> list[Figure]:
    figures = []
    for name, backlog in (("shapes_created", False), ("shapes_backlog", True)):
        async with provider(plane, moto) as rig:
            pods = [
                rig.pod(f"p{number:04}", memory=f"{256 + 8 * (number % SHAPES)}Mi") for number in range(EQUAL)
            ]  # no two neighbours are alike
            burst = await _run(rig, pods, backlog=backlog)
        how = "bound all at once" if backlog else "created 64 at a time: no call can wait for the last of its shape"
        note = f"{EQUAL} pods of {SHAPES} shapes, mixed, {how}; {burst.seconds:.1f} s until the last runs"
        goal = 60 if backlog else None
        figures += [
            Figure(f"{name}_launch_calls", burst.calls.launches, "calls", goal=goal, note=note, detail=_counts(burst)),
            Figure(f"{name}_waited", burst.waited, "pods", goal=0, note="that had to try a launch again by themselves"),
        ]
    return figures


async def _buckets(plane: ControlPlane, moto: MotoServer) -> list[Figure]:
    figures = []
    for count in (MANY, BEYOND):
        async with provider(plane, moto) as rig:
            alone_s = await _alone(rig, EQUAL) * count / EQUAL
            moto.plan(BUCKETS)
            burst = await _run(rig, [rig.pod(f"p{number:04}") for number in range(count)])
            throttled = moto.throttled()
        ideal_s = max(0.0, count - RESOURCES.burst) / RESOURCES.rate
        ideal = f"{ideal_s:.0f} s of the bucket and {alone_s:.1f} s of moto's own"
        figures += [
            Figure(
                f"buckets_{count}_waited",
                burst.waited,
                "pods",
                goal=0,
                note=f"of {count} that had to try a launch again by themselves, with EC2's token buckets",
                detail={**_counts(burst), "throttled": float(sum(throttled.values()))},
            ),
            Figure(
                f"buckets_{count}_ratio",
                burst.seconds / (ideal_s + alone_s),
                "x the ideal",
                note=f"{burst.seconds:.1f} s until the last runs; ideal: {ideal}",
            ),
        ]
    return figures


async def warm(plane: ControlPlane, moto: MotoServer) -> None:
    """moto needs seconds for its list of types, once; the providers find it in the catalog's directory."""
    async with provider(plane, moto):
        pass
