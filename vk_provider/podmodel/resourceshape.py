"""Memoization of what follows from a pod's resources alone: the pods of one template share the results. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar, TypeVarTuple

import orjson

from vk_provider.jsontypes import Json
from vk_provider.podmodel.spec import init_containers, regular_containers, spec_of

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

MAX_SHAPES = 256
"""Results that are kept of each function."""


def by_resources(compute: Callable[[Json, *Ts], R]) -> Callable[[Json, *Ts], R]:
    """Memoize a function of a pod that reads nothing but resources, overhead and which init containers are sidecars.

    The result is shared, so it must be immutable or never changed.
    """

    @lru_cache(maxsize=MAX_SHAPES)
    def compute_once(shape: bytes, *args: *Ts) -> R:
        return compute(_reduced_pod(shape), *args)

    @wraps(compute)
    def look_up(pod: Json, *args: *Ts) -> R:
        return compute_once(_shape_of(pod), *args)

    return look_up


def _shape_of(pod: Json) -> bytes:
    spec = spec_of(pod)
    return orjson.dumps(
        (
            spec.get("resources"),
            spec.get("overhead"),
            [container.get("resources") for container in regular_containers(pod)],
            [(container.get("resources"), container.get("restartPolicy")) for container in init_containers(pod)],
        )
    )


def _reduced_pod(shape: bytes) -> Json:
    """A pod that has nothing but what `shape` was made of."""
    of_pod, overhead, regular, init = orjson.loads(shape)
    return {
        "spec": {
            "resources": of_pod,
            "overhead": overhead,
            "containers": [{"resources": resources} for resources in regular],
            "initContainers": [{"resources": resources, "restartPolicy": policy} for resources, policy in init],
        }
    }
