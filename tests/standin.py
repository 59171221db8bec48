"""What stands in for an endpoint of a cloud: an HTTP server on loopback."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web


@dataclass(slots=True, kw_only=True)
class StandIn:
    """url: "http://host:port", while it is served."""

    url: str = ""
    _runner: web.AppRunner | None = None

    async def serve(self, app: web.Application) -> None:
        """At a port that is free, until `stop`."""
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
