"""Packed elements (wire.packed) as messages to the kernel, or as text for nft. Blocking for some milliseconds."""

from __future__ import annotations

from vk_provider.agent.proxy.ruleset import NEW_ELEMENTS, NFPROTO_INET, TABLE_NAME
from vk_provider.aiokit.netlink import Message, pack_text
from vk_provider.aiokit.nft import NftError
from vk_provider.wire.packed import decode_packed

_NLM_F_CREATE = 0x400


def list_messages(packed: str, table: str) -> list[Message]:
    """That add the elements to a table inet. Raises NftError."""
    place = pack_text(TABLE_NAME, table)
    try:
        return [Message(NEW_ELEMENTS, _NLM_F_CREATE, NFPROTO_INET, place + body) for body in decode_packed(packed)]
    except ValueError as error:
        raise NftError(str(error)) from None


def write_as_text(text: str, packed: str) -> str:
    """`text`, which makes a whole table, and commands that add the elements. Raises NftError."""
    from vk_provider.serviceproxy.packed import write_packed  # only where it is needed: it takes time

    try:
        return text + write_packed(text, decode_packed(packed))
    except ValueError as error:
        raise NftError(str(error)) from None
