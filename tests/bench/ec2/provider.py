"""`vk-provider` whose cloud "aws" has agents that answer as soon as they are dialled:

python -m tests.bench.ec2.provider run --config FILE
"""

from __future__ import annotations

import sys
from dataclasses import replace

from tests.moto.booted import BootedAws
from vk_provider.cli import main
from vk_provider.cloud import discovery
from vk_provider.cloud.aws.backend import BACKEND as AWS
from vk_provider.cloud.backend import CloudContext
from vk_provider.cloud.simulated.connector import SimulatedConnector

BACKEND = replace(
    AWS,
    create=lambda settings, context: _create(settings, context),
    connect=lambda cloud: SimulatedConnector(cloud),
    has_machines=False,
)


def _create(settings: object, context: CloudContext) -> BootedAws:
    return BootedAws(settings, context.owner)


if __name__ == "__main__":
    discovery._BUILT_IN["aws"] = "tests.bench.ec2.provider:BACKEND"
    sys.exit(main())
