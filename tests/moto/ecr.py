"""Puts Amazon ECR's behaviour in the place of moto's, where moto's differs."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.core.responses import ActionResult
from moto.ecr.responses import ECRResponse

LIFE = timedelta(hours=12)
"""GetAuthorizationToken: "An authorization token is valid for 12 hours"; moto's has ended in 2015."""


def install() -> None:
    """For the life of the process."""
    ECRResponse.get_authorization_token = _get_authorization_token


def _get_authorization_token(response: Any) -> ActionResult:
    account, region = response.current_account, response.region
    token = base64.b64encode(f"AWS:{account}-{region}-login".encode()).decode()
    data = {
        "authorizationToken": token,
        "expiresAt": datetime.now(UTC) + LIFE,
        "proxyEndpoint": f"https://{account}.dkr.ecr.{region}.amazonaws.com",
    }
    return ActionResult({"authorizationData": [data]})
