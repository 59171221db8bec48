"""The workload and the faults of one seed. Drawn before anything runs, so a seed's plan does not depend on what the
provider does; which pod or instance a step means is an index into those that exist then.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from vk_provider.settings import PoolSettings, WindowSettings

TEMPLATES = ("server", "selector", "job", "failing-job", "references", "slow-stop", "impossible", "misplaced", "daemon")
_WEIGHTS = (8, 5, 5, 2, 4, 3, 1, 1, 1)
NAMED_FROM, LIARS_FROM, MARKED_FROM = 100, 500, 800
"""Numbers of the pods that were made for a fault; of those that lie, and that are lied about; of those that take the
instances of pools while these cannot be marked."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happens `at_s` seconds after the start."""

    at_s: float
    kind: str
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.at_s:8.3f} {self.kind} {self.args or ''}".rstrip()


@dataclass(frozen=True, slots=True)
class Plan:
    """`length_s`: until then every fault has ended and the workload changes no more. `pools`: at the first start."""

    seed: int
    length_s: float
    steps: tuple[Step, ...]
    pools: tuple[PoolSettings, ...] = ()

    def lines(self) -> list[str]:
        return [f"seed {self.seed}: {self.length_s:.0f} s", *map(str, self.pools), *map(str, self.steps)]


class _Draw:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"plan of {seed}")
        self.length_s = self.rng.uniform(200.0, 500.0)
        self.steps: list[Step] = []
        self.named = 0

    def at(self, kind: str, at_s: float | None = None, **args: Any) -> float:
        at_s = self.rng.uniform(5.0, self.length_s - 5.0) if at_s is None else at_s
        self.steps.append(Step(round(at_s, 3), kind, args))
        return at_s

    def window(self, kind: str, shortest_s: float, longest_s: float, **args: Any) -> float:
        """A fault that begins at some time, which is returned, and ends before the end."""
        seconds = min(self.rng.uniform(shortest_s, longest_s), self.length_s - 10.0)
        return self.at(kind, self.rng.uniform(2.0, self.length_s - seconds), seconds=round(seconds, 3), **args)

    def create_named(self, template: str, at_s: float) -> str:
        """A pod that later steps name."""
        self.named += 1
        self.at("create", at_s, template=template, number=NAMED_FROM + self.named)
        return f"{template}-{NAMED_FROM + self.named}"

    def pick(self) -> float:
        """Of those that exist then."""
        return round(self.rng.random(), 6)

    def times(self, mean: float) -> range:
        """How often, about `mean` times."""
        count = int(mean)
        return range(self.rng.randint(0, 2 * count) if count else int(self.rng.random() < mean))

    def rate(self) -> float:
        return round(self.rng.uniform(0.05, 0.6), 3)


def draw_crash_plan(seed: int, steps: int) -> Plan:
    """The workload of the seed without faults, but the provider is killed after so many steps of its first life."""
    draw = _Draw(seed)
    _draw_workload(draw)
    draw.at("crash", 0.0, steps=steps, down_s=1.0)
    return Plan(seed, draw.length_s, tuple(sorted(draw.steps, key=lambda step: step.at_s)), _draw_pools(draw, seed))


def draw_plan(seed: int) -> Plan:
    draw = _Draw(seed)
    rng = draw.rng
    _draw_workload(draw)
    severity = rng.choice((0.0, 0.5, 0.5, 1.0, 1.0, 1.5))
    if severity:
        for room in (_draw_crashes, _draw_api_faults, _draw_cloud_faults, _draw_agent_faults):
            # Each kind of fault for itself, too: many at once hide each other.
            room(draw, severity * rng.choice((0.0, 1.0, 1.0, 2.0)))
    _draw_liars(draw, seed)
    pools = _draw_pools(draw, seed)
    if pools:
        _draw_marks(draw, seed)
    steps = sorted(draw.steps, key=lambda step: step.at_s)
    return Plan(seed, draw.length_s, tuple(steps), pools)


def _draw_liars(draw: _Draw, seed: int) -> None:
    """In a third of the seeds, by randomness of their own: pods that lie about their instances, and providers that are
    killed while others wait for one."""
    rng = random.Random(f"plan of liars of {seed}")
    if rng.random() < 0.67:
        return
    numbers = range(LIARS_FROM, LIARS_FROM + rng.randint(1, 3))
    for number in numbers:
        draw.at("create", rng.uniform(1.0, draw.length_s * 0.4), template="hostile", number=number)
    for turn in range(rng.randint(1, 2)):
        at_s = rng.uniform(draw.length_s * 0.45, draw.length_s - 40.0)
        for number in range(2):
            draw.at("create", at_s, template="server", number=LIARS_FROM + 10 * (turn + 1) + number)
        if rng.random() < 0.5:
            draw.at("delete", at_s + rng.uniform(0.0, 1.0), pick=f"hostile-{rng.choice(numbers)}", grace_s=0)
        draw.at("crash", at_s + rng.uniform(0.0, 2.0), steps=rng.randint(1, 200), down_s=rng.uniform(0.5, 10.0))


def _draw_marks(draw: _Draw, seed: int) -> None:
    """In half of the seeds with pools, by randomness of their own: pods, some of which lie, take the pools' instances
    while calls that mark them fail, and the provider is killed meanwhile."""
    rng = random.Random(f"plan of marks of {seed}")
    if rng.random() < 0.5:
        return
    at_s = rng.uniform(draw.length_s * 0.2, draw.length_s * 0.7)
    seconds = rng.uniform(3.0, min(40.0, draw.length_s - at_s - 10.0))
    draw.at("cloud-faults", at_s, name="marks", rate=rng.uniform(0.3, 1.0), seconds=seconds)
    for number in range(MARKED_FROM, MARKED_FROM + rng.randint(1, 3)):
        template = rng.choice(("server", "server", "hostile"))
        draw.at("create", at_s + rng.uniform(0.0, 0.5), template=template, number=number)
        if rng.random() < 0.3:
            draw.at("delete", at_s + rng.uniform(0.5, 15.0), pick=f"{template}-{number}", grace_s=0)
    draw.at("crash", at_s + rng.uniform(0.5, 5.0), steps=rng.randint(1, 120), down_s=rng.uniform(0.5, 10.0))


def _draw_pools(draw: _Draw, seed: int) -> tuple[PoolSettings, ...]:
    """By randomness of their own, so that a seed's workload and faults are the same with and without pools. Half of the
    seeds have none; some get others, for which the provider is started again."""
    rng = random.Random(f"pools of {seed}")
    if rng.random() < 0.5:
        return ()
    which = random.Random(f"stopped pools of {seed}")
    pools = _stop_some(_build_pools(rng), which)
    if rng.random() < 0.3:
        at_s = draw.at("pools", rng.uniform(20.0, draw.length_s - 30.0), pools=_stop_some(_build_pools(rng), which))
        draw.at("stop", at_s + 0.5, down_s=round(rng.uniform(0.5, 10.0), 3))
    return pools


def _stop_some(pools: tuple[PoolSettings, ...], rng: random.Random) -> tuple[PoolSettings, ...]:
    """By randomness of their own once more: all else of a seed is as with pools that run."""
    drawn = [(each, rng.random() < 0.4 and each.capacity_type != "spot") for each in pools]
    return tuple(replace(each, state="stopped") if is_stopped else each for each, is_stopped in drawn)


def _build_pools(rng: random.Random) -> tuple[PoolSettings, ...]:
    made = []
    for number in range(rng.choice((1, 1, 2))):
        count = rng.randint(0, 3)
        windows = (WindowSettings(rng.randint(0, 3), "00:00-24:00"),) if rng.random() < 0.3 else ()
        made.append(
            PoolSettings(
                f"pool-{number}",
                cpu=rng.choice(("250m", "250m", "2")),
                memory="256Mi",
                capacity_type=rng.choice(("on-demand", "on-demand", "on-demand", "spot")),
                count=count,
                max=count + rng.choice((0, 0, 2)),
                price_factor=rng.choice((1.0, 2.0, 20.0)),
                schedule=windows,
            )
        )
    return tuple(made)


def _draw_workload(draw: _Draw) -> None:
    rng = draw.rng
    number = 0
    for _ in range(rng.randint(1, 4)):
        template = rng.choices(TEMPLATES, _WEIGHTS)[0]
        at_s = rng.uniform(0.5, draw.length_s / 2)
        for _ in range(rng.randint(1, 6) if template not in ("impossible", "misplaced", "daemon") else 1):
            number += 1
            draw.at("create", at_s + rng.choice((0.0, 0.0, rng.uniform(0.0, 2.0))), template=template, number=number)
    for _ in draw.times(3):
        number += 1
        draw.at("create", template=rng.choices(TEMPLATES, _WEIGHTS)[0], number=number)
    for _ in draw.times(4):
        draw.at("delete", pick=draw.pick(), grace_s=rng.choice((None, None, 1, 5)))
    for _ in draw.times(2):
        draw.at("replace", pick=draw.pick(), grace_s=rng.choice((None, 0)))
    for _ in draw.times(1):
        draw.at("delete", pick=draw.pick(), grace_s=0)
    if rng.random() < 0.2:
        draw.at("delete-all", grace_s=rng.choice((None, 0)))
    for _ in draw.times(3):
        draw.at("label", pick=draw.pick(), value=rng.randint(0, 99), pending=rng.random() < 0.5)
    for _ in draw.times(2):
        draw.at("crash-container", pick=draw.pick(), raced=rng.random() < 0.4)
    for _ in draw.times(2):
        draw.at("not-ready", pick=draw.pick())
    for _ in draw.times(2):
        draw.at("resize", pick=draw.pick(), cpu=rng.choice(("50m", "100m", "200m")))
    for _ in draw.times(2):
        draw.at("service", value=rng.randint(0, 3))
    for _ in draw.times(2):
        draw.at("config-map", value=rng.randint(0, 99))
    for _ in draw.times(1):
        draw.at("node", edit=rng.choice(("label", "cordon", "capacity", "delete")), value=rng.randint(0, 9))


def _draw_crashes(draw: _Draw, severity: float) -> None:
    rng = draw.rng
    for _ in draw.times(1.5 * severity if severity < 1 else 2 * severity):
        down_s = rng.choice((0.5, 3.0, rng.uniform(1.0, 30.0), rng.uniform(30.0, 120.0)))
        if rng.random() < 0.5:
            draw.at("crash", steps=rng.randint(1, 400), down_s=down_s)
        else:
            # Soon after something happens: there are the interesting awaits.
            near = rng.choice(draw.steps)
            draw.at("crash", near.at_s + rng.uniform(0.0, 2.0), steps=rng.randint(1, 120), down_s=down_s)
    for _ in draw.times(0.3 * severity):
        draw.at("stop", down_s=rng.uniform(0.5, 20.0))


def _draw_api_faults(draw: _Draw, severity: float) -> None:
    rng = draw.rng
    for _ in draw.times(0.4 * severity):
        draw.window("api-away", 1.0, 90.0)
    for name in ("lost_request", "lost_answer", "unavailable", "throttled", "slow"):
        for _ in draw.times(0.4 * severity):
            draw.window("api-faults", 5.0, 120.0, name=name, rate=draw.rate())
    for _ in draw.times(1 * severity):
        draw.at("break-watches")
    for _ in draw.times(0.7 * severity):
        draw.at("compact", and_break=rng.random() < 0.7)
    for _ in draw.times(0.5 * severity):
        draw.window("stall-watches", 2.0, 60.0)
    for _ in draw.times(0.6 * severity):
        draw.window(
            "webhook", 5.0, 120.0, what=rng.choice(("status", "delete", "events")), status=rng.choice((403, 500))
        )
    for _ in draw.times(0.9 * severity):
        what = rng.choice(("configmaps", "serviceaccounts", "serviceaccounts", "events"))
        since = draw.window("hang", 150.0, 400.0, what=what)
        name = draw.create_named("references", since + rng.uniform(0.1, 5.0))
        draw.at("delete", since + rng.uniform(8.0, 25.0), pick=name, grace_s=None)


def _draw_cloud_faults(draw: _Draw, severity: float) -> None:
    rng = draw.rng
    for name in ("throttled", "lost", "late", "broken", "partial"):
        for _ in draw.times(0.5 * severity):
            since = draw.window("cloud-faults", 5.0, 120.0, name=name, rate=draw.rate())
            at_s = since + rng.uniform(0.1, 5.0)
            pod = draw.create_named("server", at_s)
            for _ in range(rng.choice((0, 0, 3, 7))):
                draw.create_named("server", at_s)
            for _ in range(rng.randint(0, 4)):
                # What a request is made of changes between two tries.
                draw.at("label", since + rng.uniform(0.3, 15.0), pick=pod, value=rng.randint(0, 99), pending=False)
    for _ in draw.times(0.6 * severity):
        draw.window("blind", 5.0, 25.0, pick=draw.pick())
    for _ in draw.times(0.3 * severity):
        draw.window("all-blind", 5.0, 25.0)
    for _ in draw.times(0.4 * severity):
        draw.window("stale", 20.0, 120.0)
    for _ in draw.times(0.5 * severity):
        draw.window("failed-boots", 20.0, 120.0, rate=draw.rate())
    for _ in draw.times(0.4 * severity):
        draw.window("slow-boots", 20.0, 120.0, boot_s=rng.uniform(20.0, 110.0))
    for _ in draw.times(0.5 * severity):
        draw.window("no-capacity", 20.0, 150.0, share=rng.choice((0.3, 0.7, 1.0)))
    for _ in draw.times(0.3 * severity):
        draw.window("quota", 20.0, 120.0, more=rng.randint(0, 2))
    for _ in draw.times(1 * severity):
        draw.at("kill", pick=draw.pick(), sudden=rng.random() < 0.5)
    for _ in draw.times(0.5 * severity):
        draw.at("protect", pick=draw.pick())


def _draw_agent_faults(draw: _Draw, severity: float) -> None:
    rng = draw.rng
    for _ in draw.times(3 * severity):
        draw.at("cut", pick=draw.pick(), seconds=rng.choice((0.5, rng.uniform(1.0, 10.0), rng.uniform(20.0, 100.0))))
    for _ in draw.times(0.5 * severity):
        draw.at("mute", pick=draw.pick(), seconds=rng.uniform(1.0, 60.0))
    for _ in draw.times(0.3 * severity):
        draw.at("cut-all", seconds=rng.uniform(1.0, 60.0))
