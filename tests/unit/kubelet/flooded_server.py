"""A kubelet server in a process of its own, whose memory can be measured: prints its port, ends with its stdin."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.unit.kubelet.rig import Rig


async def serve() -> None:
    with tempfile.TemporaryDirectory() as directory:
        rig = Rig(Path(directory))
        await rig.start()
        print(rig.server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await rig.stop()


if __name__ == "__main__":
    uvloop.run(serve())
