"""Makes a case smaller while a difference stays. Pure but for what tries a case out."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from tests.differential.case import Case
from tests.differential.grammar.generate import build
from vk_provider.jsontypes import Json

Reduction = Callable[[Case], Case | None]
"""A smaller case, None when there is nothing (left) to take away."""
Trial = Callable[[Case], Awaitable[bool]]

KEPT_SPEC = ("containers", "terminationGracePeriodSeconds")
KEPT_CONTAINER = ("name", "image", "command", "args")
LISTS = ("containers", "initContainers", "volumes")


async def shrink(case: Case, still: Trial, budget: int) -> tuple[Case, int]:
    """The smallest case found, and how many trials of `budget` are left."""
    for reductions_of in (part_reductions, reductions):
        case, budget = await _shrink_with(case, still, budget, reductions_of)
    return case, budget


async def _shrink_with(
    case: Case, still: Trial, budget: int, reductions_of: Callable[[Case], list[Reduction]]
) -> tuple[Case, int]:
    while budget > 0:
        tried = [(reduce, smaller) for reduce in reductions_of(case) if (smaller := reduce(case)) and smaller != case]
        tried = tried[:budget]
        if not tried:
            break
        budget -= len(tried)
        kept = await asyncio.gather(*(still(smaller) for _, smaller in tried))
        good = [pair for pair, keeps in zip(tried, kept, strict=True) if keeps]
        if not good:
            break
        together = case
        for reduce, _ in good:
            together = reduce(together) or together
        if len(good) > 1 and together != good[0][1]:
            budget -= 1
            case = together if await still(together) else good[0][1]
        else:
            case = good[0][1]
    return case, budget


def part_reductions(case: Case) -> list[Reduction]:
    """Leave out one feature or action of a generated case."""
    return [_without_part(part) for part in case.features] if len(case.features) > 1 else []


def _without_part(part: str) -> Reduction:
    def reduce(case: Case) -> Case | None:
        parts = tuple(other for other in case.features if other != part)
        return build(case.name, case.name, parts) if parts and parts != case.features else None

    return reduce


def reductions(case: Case) -> list[Reduction]:
    """Leave out one thing of the manifest or one action: the big ones first."""
    return list(_reductions(case))


def _reductions(case: Case) -> Iterator[Reduction]:
    for action in case.actions:
        yield _without_action(case.actions.index(action))
    spec = case.pod["spec"]
    for key in LISTS:
        for item in spec.get(key, ()):
            yield _edit(_dropper(key, str(item["name"])))
    for item in case.objects:
        yield _without_object(item["metadata"]["name"])
    for key in spec:
        if key not in (*KEPT_SPEC, *LISTS):
            yield _edit(_popper(("spec", key)))
    for key in ("labels", "annotations", "finalizers"):
        yield _edit(_popper(("metadata", key)))
    for kind in LISTS[:2]:
        for index, container in enumerate(spec.get(kind, ())):
            for key in container:
                if key not in KEPT_CONTAINER:
                    yield _edit(_popper(("spec", kind, index, key)))


def _without_action(index: int) -> Reduction:
    def reduce(case: Case) -> Case | None:
        if index >= len(case.actions):
            return None
        return replace(case, actions=case.actions[:index] + case.actions[index + 1 :], features=())

    return reduce


def _without_object(name: str) -> Reduction:
    def reduce(case: Case) -> Case | None:
        left = tuple(item for item in case.objects if item["metadata"]["name"] != name)
        return replace(case, objects=left, features=()) if left != case.objects else None

    return reduce


def _edit(change: Callable[[Json], bool]) -> Reduction:
    def reduce(case: Case) -> Case | None:
        pod = copy.deepcopy(case.pod)
        return replace(case, pod=pod, features=()) if change(pod) else None

    return reduce


def _dropper(key: str, name: str) -> Callable[[Json], bool]:
    def change(pod: Json) -> bool:
        spec = pod["spec"]
        left = [item for item in spec.get(key, ()) if item["name"] != name]
        if len(left) == len(spec.get(key, ())) or (key == "containers" and not left):
            return False
        spec[key] = left
        if not left:
            del spec[key]
        if key == "volumes":
            for container in (*spec["containers"], *spec.get("initContainers", ())):
                mounts = [mount for mount in container.get("volumeMounts", ()) if mount["name"] != name]
                container["volumeMounts"] = mounts
                if not mounts:
                    del container["volumeMounts"]
        return True

    return change


def _popper(path: tuple[str | int, ...]) -> Callable[[Json], bool]:
    def change(pod: Json) -> bool:
        value = pod
        for step in path[:-1]:
            try:
                value = value[step]
            except (KeyError, IndexError):
                return False
        return value.pop(path[-1], None) is not None

    return change
