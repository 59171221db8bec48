"""What the machine image is told about instance store disks: see manifests/aws/instance-store.sh. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vk_provider.errors import CloudRequestError
from vk_provider.wire.bootdata import BootData

HINT: Final = "instanceStore"
"""In BootData.extra: {"leastBytes": N}. Disks that hold less are left alone, as all are without it."""


def add_store(user_data: str, least_bytes: int) -> str:
    """Boot data by which an instance joins its disks if they hold so many bytes of files. Raises CloudRequestError for
    user data that are no boot data."""
    try:
        boot_data = BootData.from_user_data(user_data)
    except ValueError as error:
        raise CloudRequestError(f"InvalidParameterValue: instance store disks need boot data: {error}") from None
    return replace(boot_data, extra={**boot_data.extra, HINT: {"leastBytes": least_bytes}}).to_user_data()
