"""What the SDK's chain of credentials asks, in the test's process: STS, SSO's portal, the endpoint of containers;
and EC2, which says whose key it has seen and refuses one that has expired.

    POST /                                   EC2's and STS' query protocol, by Action
    GET  /federation/credentials             SSO's GetRoleCredentials
    GET  /v1/credentials                     of containers: ECS, EKS Pod Identity
"""

from __future__ import annotations

import itertools
import math
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from tests.standin import StandIn

LIFE_S = 6 * 3600.0
"""Of the keys that are given out."""
_KEY = re.compile(r"Credential=([A-Z0-9]+)/")
_STS = "https://sts.amazonaws.com/doc/2011-06-15/"
_EC2 = "http://ec2.amazonaws.com/doc/2016-11-15/"


@dataclass(slots=True)
class SdkChain(StandIn):
    """passed_s: how far its clock is ahead. keys: that EC2 was called with, in order. tokens: that keys were
    asked for with; roles: which role, where it was named. expires: of the keys that were given out."""

    passed_s: float = 0.0
    keys: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    expires: dict[str, float] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/", self._query)
        app.router.add_get("/federation/credentials", self._sso)
        app.router.add_get("/v1/credentials", self._container)
        await self.serve(app)

    def clock(self) -> float:
        return time.time() + self.passed_s

    def _give(self, token: str, role: str = "") -> tuple[str, float]:
        self.tokens.append(token)
        self.roles.append(role)
        key = f"ASIAEXAMPLE{next(self._numbers)}"
        self.expires[key] = self.clock() + LIFE_S
        return key, self.expires[key]

    async def _query(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form["Action"] == "AssumeRoleWithWebIdentity":
            key, expires = self._give(str(form["WebIdentityToken"]), str(form["RoleArn"]))
            return _xml(
                f'<AssumeRoleWithWebIdentityResponse xmlns="{_STS}"><AssumeRoleWithWebIdentityResult><Credentials>'
                f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
                f"<Expiration>{_iso(expires)}</Expiration></Credentials><AssumedRoleUser>"
                f"<Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId>"
                "</AssumedRoleUser></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            )
        found = _KEY.search(request.headers.get("Authorization", ""))
        key = found[1] if found is not None else ""
        self.keys.append(key)
        if not key or self.expires.get(key, math.inf) <= self.clock():
            error = "<Error><Code>RequestExpired</Code><Message>expired</Message></Error>"
            return _xml(f"<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>", 400)
        return _xml(
            f'<DescribeSubnetsResponse xmlns="{_EC2}"><requestId>r</requestId><subnetSet/></DescribeSubnetsResponse>'
        )

    async def _sso(self, request: web.Request) -> web.Response:
        role = f"{request.query['account_id']}/{request.query['role_name']}"
        key, expires = self._give(request.headers.get("x-amz-sso_bearer_token", ""), role)
        given = {"accessKeyId": key, "secretAccessKey": "s", "sessionToken": "t", "expiration": int(expires * 1000)}
        return web.json_response({"roleCredentials": given})

    async def _container(self, request: web.Request) -> web.Response:
        key, expires = self._give(request.headers.get("Authorization", ""))
        given = {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": _iso(expires)}
        return web.json_response(given)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def _xml(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/xml")
