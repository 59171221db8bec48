"""A cloud of somebody else, as an installer leaves it in a directory of packages: a module and its metadata."""

from __future__ import annotations

from pathlib import Path

MODULE = '''
from dataclasses import dataclass

from vk_provider.cloud.backend import CloudBackend, CloudContext
from vk_provider.errors import BadStartError
from vk_provider.settingtypes import PositiveInt


@dataclass(frozen=True, slots=True)
class MarsSettings:
    account: str
    rockets: PositiveInt = 2


class MarsCloud:
    name = "mars"
    shares_host_paths = False

    def __init__(self, settings: MarsSettings, context: CloudContext) -> None:
        self.settings, self.context = settings, context

    async def start(self) -> None:
        raise BadStartError(f"no launch window for {self.settings.account}, owner {self.context.owner}")

    async def close(self) -> None:
        """Nothing to release."""


BACKEND = CloudBackend(
    name="mars",
    settings=MarsSettings,
    create=MarsCloud,
    check=lambda settings: "account is Earth's" if settings.account == "earth" else "",
)
'''


def install(directory: Path, distribution: str = "mars-cloud", name: str = "mars", module: str = MODULE) -> None:
    """Write the module mars_cloud and a distribution that registers its BACKEND under `name`."""
    (directory / "mars_cloud.py").write_text(module)
    metadata = directory / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[vk_provider.clouds]\n{name} = mars_cloud:BACKEND\n")
