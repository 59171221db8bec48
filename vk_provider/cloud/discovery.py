"""Finds the clouds by name: those of this program, and those that other distributions registered as entry points.

Somebody else's cloud is installed beside this program; its pyproject.toml says which CloudBackend it has, under the
name that `cloud.backend` in the settings chooses it by:

    [project.entry-points."vk_provider.clouds"]
    mars = "mars_cloud.backend:BACKEND"
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vk_provider.cloud.backend import CloudBackend
from vk_provider.errors import BadStartError

GROUP = "vk_provider.clouds"
_BUILT_IN = {
    "aws": "vk_provider.cloud.aws.backend:BACKEND",
    "local": "vk_provider.cloud.local.backend:BACKEND",
    "simulated": "vk_provider.cloud.simulated.backend:BACKEND",
}
"""No entry points: a source tree on PYTHONPATH, which this program runs from as well, has no metadata."""


def find_backends() -> Mapping[str, EntryPoint]:
    """All clouds by name; none is imported. Raises BadStartError when two have one name."""
    found = {name: EntryPoint(name, value, GROUP) for name, value in _BUILT_IN.items()}
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            raise BadStartError(
                f"two clouds have the name {entry.name!r}: that of {_origin(found[entry.name])} and that of "
                f"{_origin(entry)}; one must be uninstalled"
            )
        found[entry.name] = entry
    return found


def load_backend(name: str) -> CloudBackend[Any, Any]:
    """Import one. Raises BadStartError: for an unknown name with the known ones, for one that cannot be used."""
    found = find_backends()
    entry = found.get(name)
    if entry is None:
        raise BadStartError(f"cloud.backend must be one of {', '.join(map(repr, sorted(found)))}, not {name!r}")
    try:
        backend = entry.load()
    except Exception as error:
        raise BadStartError(f"the cloud {name!r} of {_origin(entry)} cannot be imported: {error!r}") from error
    if not isinstance(backend, CloudBackend) or backend.name != name:
        raise BadStartError(f"{entry.value} of {_origin(entry)} is no CloudBackend with the name {name!r}")
    return backend


def _origin(entry: EntryPoint) -> str:
    return f"the distribution {entry.dist.name}" if entry.dist else "vk-provider itself"
