"""Messages about the roles of pods (EKS Pod Identity): containers ask their agent with a service account token, and the
provider answers with the credentials that the token stands for.

Each message carries the whole state: the agent tells the tokens that containers wait for, the provider all answers that
it has for them. An agent answers its containers only where the provider says so (NodeFacts.podIdentity).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from vk_provider.wire.values import Uid

IDENTITY_FEATURE = "identity"
"""In the greeting of an agent that can answer containers with credentials."""
IDENTITY_HOSTS = ("169.254.170.23", "fd00:ec2::23")
"""Where containers ask (eks-pod-identity-agent, configuration/config.go), on port 80."""
IDENTITY_PATH = "/v1/credentials"
MAX_TOKEN = 8 << 10
"""Characters of a token; the API server's have about 1,000."""
MAX_TOKENS = 4
"""At once: a pod has one service account, and two tokens of it while one is renewed."""

IdentityToken = Annotated[str, Meta(max_length=MAX_TOKEN, pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")]
"""A signed JWT in its compact form."""


class IdentityMessage(TypedDict):
    """Up: the tokens that containers of the pod wait for."""

    type: Literal["identity"]
    podUID: Uid
    tokens: Annotated[list[IdentityToken], Meta(max_length=MAX_TOKENS)]


class IdentityAnswer(TypedDict):
    """What a container is answered.

    status: of HTTP
    body:   JSON of credentials with the status 200, else a line of text
    freshForSeconds: for how long the agent may give the same answer again
    """

    status: int
    body: str
    freshForSeconds: float


class CredentialsMessage(TypedDict):
    """Down: answers by `token_digest`."""

    type: Literal["credentials"]
    answers: dict[str, IdentityAnswer]


def token_digest(token: str) -> str:
    """What a token is called where it need not be known."""
    return hashlib.sha256(token.encode()).hexdigest()
