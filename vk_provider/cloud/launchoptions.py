"""Names of LaunchRequest.options, as users write them. A cloud refuses those that it does not know."""

from __future__ import annotations

from typing import Literal, get_args

LaunchOption = Literal[
    "subnet",
    "image",
    "security-groups",
    "instance-profile",
    "root-volume-throughput",
    "root-volume-iops",
    "instance-store-policy",
]
OPTIONS: tuple[LaunchOption, ...] = get_args(LaunchOption)
"""Of the launch itself: `vk-provider/<option>`, heeded on RuntimeClasses, and on pods where pods.launch_options allows
it; on clouds that know the option."""
