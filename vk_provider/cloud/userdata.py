"""User data limits of every backend."""

from __future__ import annotations

import base64

from vk_provider.errors import CloudRequestError

MAX_USER_DATA_BYTES = 16384
"""EC2's limit, before base64."""


def check_user_data(text: str) -> None:
    """Raise CloudRequestError when the text is too long for a cloud."""
    size = len(text.encode())
    if size > MAX_USER_DATA_BYTES:
        raise CloudRequestError(f"InvalidParameterValue: user data is {size} bytes, at most {MAX_USER_DATA_BYTES}")


def encode_user_data(text: str) -> str:
    """base64, as EC2's API takes it."""
    check_user_data(text)
    return base64.b64encode(text.encode()).decode()
