"""The answer of the identity exchange (routes.IDENTITY_REQUEST)."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from vk_provider.wire.values import Name

MAX_CSR = 16 << 10
"""Characters of a certificate signing request; an agent's has some 500."""
MAX_EXCHANGE_BYTES = 64 << 10
"""Of the whole answer."""


class ExchangeAnswer(TypedDict):
    """versions: of the wire contract that the agent speaks; csr: PEM; hmac: proves the boot secret, in hexadecimal."""

    versions: Annotated[list[Annotated[int, Meta(ge=0, le=1000)]], Meta(max_length=64)]
    instanceID: Name
    csr: Annotated[str, Meta(max_length=MAX_CSR, pattern=r"^[\x20-\x7e\r\n]*\Z")]
    hmac: Annotated[str, Meta(max_length=64, pattern=r"^[0-9a-f]*\Z")]
