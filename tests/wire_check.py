"""Holds what an agent really sends against the schema that the provider decodes it by."""

from __future__ import annotations

from typing import Any

import orjson

from vk_provider.jsontypes import Json
from vk_provider.wire.inbound import decode_up


def assert_fits(message: Any) -> None:
    """The message passes the schema, and no field of it is one that the schema does not name."""
    sent: Json = orjson.loads(orjson.dumps(message))
    assert orjson.loads(orjson.dumps(decode_up(orjson.dumps(message)))) == sent
