"""EKS Auth in the test's process: AssumeRoleForPodIdentity over HTTP, as its API reference describes it.

moto has no EKS Auth.

POST /clusters/NAME/assume-role-for-pod-identity {"token"}; errors are JSON with the header x-amzn-ErrorType.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from aiohttp import web

from tests.standin import StandIn

ACCOUNT = "123456789012"


@dataclass(slots=True)
class EksAuth(StandIn):
    """roles: ARN of the assumed role by token; other tokens are refused. fails: (code, status) that is answered
    instead. life_s: of credentials. asked: the tokens of all calls; signed: whether each was signed for eks-auth."""

    cluster: str
    roles: dict[str, str] = field(default_factory=dict)
    fails: tuple[str, int] | None = None
    life_s: float = 21600.0
    asked: list[str] = field(default_factory=list)
    signed: list[bool] = field(default_factory=list)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/clusters/{cluster}/assume-role-for-pod-identity", self._handle)
        await self.serve(app)

    async def _handle(self, request: web.Request) -> web.Response:
        token = (await request.json())["token"]
        self.asked.append(token)
        self.signed.append("/eks-auth/aws4_request" in request.headers.get("Authorization", ""))
        if request.match_info["cluster"] != self.cluster:
            return _refuse("ResourceNotFoundException", 404)
        if self.fails is not None:
            return _refuse(*self.fails)
        role = self.roles.get(token)
        if role is None:
            return _refuse("InvalidTokenException", 400)
        return web.json_response(
            {
                "subject": {"namespace": "ns", "serviceAccount": "default"},
                "audience": "pods.eks.amazonaws.com",
                "podIdentityAssociation": {
                    "associationArn": f"arn:aws:eks:eu-central-1:{ACCOUNT}:podidentityassociation/{self.cluster}/a-1",
                    "associationId": "a-1",
                },
                "assumedRoleUser": {"arn": role, "assumeRoleId": "AROAEXAMPLE:session"},
                "credentials": {
                    "accessKeyId": "ASIAEXAMPLE",
                    "secretAccessKey": "hush",
                    "sessionToken": "session",
                    "expiration": time.time() + self.life_s,
                },
            }
        )


def _refuse(code: str, status: int) -> web.Response:
    headers = {"x-amzn-ErrorType": code, "x-amzn-RequestId": "00000000-0000-4000-8000-000000000000"}
    return web.json_response({"message": f"said {code}"}, status=status, headers=headers)
